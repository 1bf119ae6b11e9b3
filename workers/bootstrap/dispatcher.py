"""The dispatcher, put together.

Called by the composition root. Imports of adapters stand inside the function, so that no other worker pays for them.
"""

import os

from workers.ports import Runnable
from workers.settings import DispatcherSettings


def dispatcher(settings: DispatcherSettings) -> Runnable:
    """The dispatcher; it holds the command key.

    Raises:
        ConfigError: ledger, keys, keyset or broker settings cannot be used.
        LimitExceeded, PermanentFailure: the ledger's disk is full, damaged, or the file in use by another dispatcher.
    """
    from workers.actions import CATALOGUE
    from workers.adapters.avro import AvroCodec
    from workers.adapters.chance import SystemChance
    from workers.adapters.clock import SystemClock
    from workers.adapters.failpoints import failpoints
    from workers.adapters.kafka.reader import KafkaLogReader
    from workers.adapters.kafka.relay import OutboxRelay
    from workers.adapters.kafka.unsendable import Unsendable
    from workers.adapters.kafka.writer import KafkaLogWriter
    from workers.adapters.keys import load_keyset, load_private_key
    from workers.adapters.ledger import SqliteLedger
    from workers.adapters.scribe import ChainScribe
    from workers.adapters.signing import EnvelopeOpener, EnvelopeSealer
    from workers.adapters.telemetry import telemetry
    from workers.core.ids import RANDOM_BYTES, uuid7
    from workers.core.policy import decide
    from workers.dispatcher.desk import Desk
    from workers.dispatcher.loop import Loop
    from workers.dispatcher.tails import Tails
    from workers.dispatcher.turn import Room

    clock, chance, codec = SystemClock(), SystemChance(), AvroCodec()
    instance = uuid7(clock.now_ns(), chance.bytes(RANDOM_BYTES))
    told = telemetry(settings.telemetry, worker="dispatcher", instance_id=instance)
    armed = failpoints(os.environ)
    sealer = EnvelopeSealer(load_private_key(settings.keys.private_key), codec)
    keyset = load_keyset(settings.keys.keyset)
    ledger = SqliteLedger(settings.ledger, chance=chance)
    scribe = ChainScribe("dispatcher", sealer=sealer, codec=codec)
    tails = Tails(KafkaLogWriter(settings.kafka, telemetry=told, clock=clock))
    room = Room(
        codec=codec,
        opener=EnvelopeOpener(keyset, codec, clock=clock),
        sealer=sealer,
        scribe=scribe,
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
        refused=Unsendable(ledger.begin, scribe, clock.now_ns, told),
    )
    desk = Desk(room, ledger, clock=clock, failpoints=armed)
    reader = KafkaLogReader(settings.kafka, telemetry=told, clock=clock)
    return Loop(room, desk, ledger, reader=reader, relay=relay, clock=clock)
