"""The responder, put together.

Called by the composition root. Imports of adapters stand inside the function, so that no other worker pays for them.
"""

import os

from workers.domain.ids import RANDOM_BYTES, ChainId, uuid7
from workers.settings import ResponderSettings
from workers.system.ports import Runnable
from workers.wiring.rules import load_rules


def responder(settings: ResponderSettings) -> Runnable:
    """The responder.

    Raises:
        ConfigError: rules, key or broker settings cannot be used.
    """
    from workers.log.memory_outbox import MemoryOutbox
    from workers.log.readers import KafkaGroupReader
    from workers.log.relay import OutboxRelay
    from workers.log.writer import KafkaLogWriter
    from workers.responder.decider import Decider
    from workers.responder.loop import Loop
    from workers.responder.responder import Responder
    from workers.system.clock import SystemClock
    from workers.system.failpoints import failpoints
    from workers.system.randomness import SystemRandomness
    from workers.system.telemetry import telemetry
    from workers.wire.avro import AvroCodec
    from workers.wire.event_reader import DetectorEvents
    from workers.wire.keys import load_private_key
    from workers.wire.recorder import ChainRecorder
    from workers.wire.signing import EnvelopeSigner

    rules = load_rules(settings.rules)
    clock, codec = SystemClock(), AvroCodec()
    instance = uuid7(clock.now_ns(), SystemRandomness().bytes(RANDOM_BYTES))
    told = telemetry(settings.telemetry, worker="responder", instance_id=instance)
    armed = failpoints(os.environ)
    signer = EnvelopeSigner(load_private_key(settings.keys.private_key), codec)
    outgoing = MemoryOutbox(ChainId(f"responder/{instance}"))
    reader = KafkaGroupReader(settings.kafka, settings.group, member=settings.member, telemetry=told, clock=clock)
    writer = KafkaLogWriter(settings.kafka, telemetry=told, clock=clock)
    decider = Decider(
        rules=rules,
        oldest_event_s=settings.oldest_event_s,
        events=DetectorEvents(codec),
        codec=codec,
        recorder=ChainRecorder("responder", signer=signer, codec=codec),
        outgoing=outgoing,
        clock=clock,
        telemetry=told,
    )
    relay = OutboxRelay(outgoing, writer, failpoints=armed, telemetry=told, clock=clock, refused=decider.say_unsendable)
    return Loop(
        responder=Responder(
            decider=decider,
            oldest_event_s=settings.oldest_event_s,
            reader=reader,
            outgoing=outgoing,
            relay=relay,
            clock=clock,
            failpoints=armed,
        ),
        reader=reader,
        writer=writer,
        telemetry=told,
    )
