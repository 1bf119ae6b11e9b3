"""The dispatcher, put together.

Called by the composition root. Imports of adapters stand inside the function, so that no other worker pays for them.
"""

import os

from workers.settings import DispatcherSettings
from workers.system.ports import Runnable


def dispatcher(settings: DispatcherSettings) -> Runnable:
    """The dispatcher; it holds the command key.

    Raises:
        ConfigError: ledger, keys, keyset or broker settings cannot be used.
        LimitExceeded, PermanentFailure: the ledger's disk is full, damaged, or the file in use by another dispatcher.
    """
    from workers.actions import CATALOGUE
    from workers.dispatcher.dispatcher import Dispatcher
    from workers.dispatcher.loop import Loop
    from workers.dispatcher.tails import Tails
    from workers.dispatcher.transaction import Services
    from workers.domain.ids import RANDOM_BYTES, uuid7
    from workers.domain.policy import decide
    from workers.log.readers import KafkaLogReader
    from workers.log.relay import OutboxRelay
    from workers.log.unsendable import Unsendable
    from workers.log.writer import KafkaLogWriter
    from workers.store.ledger import SqliteLedger
    from workers.system.clock import SystemClock
    from workers.system.failpoints import failpoints
    from workers.system.randomness import SystemRandomness
    from workers.system.telemetry import telemetry
    from workers.wire.avro import AvroCodec
    from workers.wire.keys import load_keyset, load_private_key
    from workers.wire.recorder import ChainRecorder
    from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier

    clock, randomness, codec = SystemClock(), SystemRandomness(), AvroCodec()
    instance = uuid7(clock.now_ns(), randomness.bytes(RANDOM_BYTES))
    told = telemetry(settings.telemetry, worker="dispatcher", instance_id=instance)
    armed = failpoints(os.environ)
    signer = EnvelopeSigner(load_private_key(settings.keys.private_key), codec)
    keyset = load_keyset(settings.keys.keyset)
    ledger = SqliteLedger(settings.ledger, randomness=randomness)
    recorder = ChainRecorder("dispatcher", signer=signer, codec=codec)
    tails = Tails(KafkaLogWriter(settings.kafka, telemetry=told, clock=clock))
    services = Services(
        codec=codec,
        verifier=EnvelopeVerifier(keyset, codec, clock=clock),
        signer=signer,
        recorder=recorder,
        telemetry=told,
        tails=tails,
        actions={action.name: action for action in CATALOGUE},
        zones=settings.zones,
        silent_after_s=settings.silent_after_s,
        decide=decide,
    )
    relay = OutboxRelay(
        ledger,
        tails,
        failpoints=armed,
        telemetry=told,
        clock=clock,
        refused=Unsendable(ledger.begin, recorder, clock.now_ns, told),
    )
    dispatcher = Dispatcher(services, ledger, clock=clock, failpoints=armed)
    reader = KafkaLogReader(settings.kafka, telemetry=told, clock=clock)
    return Loop(services, dispatcher, ledger, reader=reader, relay=relay, clock=clock)
