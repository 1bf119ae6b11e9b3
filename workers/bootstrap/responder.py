"""The responder, put together.

Called by the composition root. Imports of adapters stand inside the function, so that no other worker pays for them.
"""

import os

from workers.bootstrap.rules import load_rules
from workers.core.ids import RANDOM_BYTES, ChainId, uuid7
from workers.ports import Runnable
from workers.settings import ResponderSettings


def responder(settings: ResponderSettings) -> Runnable:
    """The responder.

    Raises:
        ConfigError: rules, key or broker settings cannot be used.
    """
    from workers.adapters.avro import AvroCodec
    from workers.adapters.chance import SystemChance
    from workers.adapters.clock import SystemClock
    from workers.adapters.failpoints import failpoints
    from workers.adapters.falco import DetectorEvents
    from workers.adapters.kafka.group import KafkaGroupReader
    from workers.adapters.kafka.memory_outbox import MemoryOutbox
    from workers.adapters.kafka.relay import OutboxRelay
    from workers.adapters.kafka.writer import KafkaLogWriter
    from workers.adapters.keys import load_private_key
    from workers.adapters.scribe import ChainScribe
    from workers.adapters.signing import EnvelopeSealer
    from workers.adapters.telemetry import telemetry
    from workers.responder.decider import Decider
    from workers.responder.loop import Loop
    from workers.responder.responder import Responder

    rules = load_rules(settings.rules)
    clock, codec = SystemClock(), AvroCodec()
    instance = uuid7(clock.now_ns(), SystemChance().bytes(RANDOM_BYTES))
    told = telemetry(settings.telemetry, worker="responder", instance_id=instance)
    armed = failpoints(os.environ)
    sealer = EnvelopeSealer(load_private_key(settings.keys.private_key), codec)
    outgoing = MemoryOutbox(ChainId(f"responder/{instance}"))
    reader = KafkaGroupReader(settings.kafka, settings.group, member=settings.member, telemetry=told, clock=clock)
    writer = KafkaLogWriter(settings.kafka, telemetry=told, clock=clock)
    decider = Decider(
        rules=rules,
        oldest_event_s=settings.oldest_event_s,
        events=DetectorEvents(codec),
        codec=codec,
        scribe=ChainScribe("responder", sealer=sealer, codec=codec),
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
