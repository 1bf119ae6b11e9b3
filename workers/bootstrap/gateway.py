"""The gateway, put together.

Called by ``bootstrap.ROLES``.
"""

import os
import uuid

from workers.ports import Runnable
from workers.settings import GatewaySettings


def gateway(settings: GatewaySettings) -> Runnable:
    """The HTTP gateway: its own key signs its audit chain and nothing else.

    Raises:
        ConfigError: a key, the history store, the object store or the broker's settings cannot be used.
        TransientFailure: the history store is busy.
    """
    from workers.actions import CATALOGUE
    from workers.adapters.avro import AvroCodec
    from workers.adapters.chance import SystemChance
    from workers.adapters.clock import SystemClock
    from workers.adapters.failpoints import failpoints
    from workers.adapters.falco import alerts_in
    from workers.adapters.history_store.store import open_history
    from workers.adapters.kafka.memory_outbox import MemoryOutbox
    from workers.adapters.kafka.relay import OutboxRelay
    from workers.adapters.kafka.unsendable import Unsendable
    from workers.adapters.kafka.writer import KafkaLogWriter
    from workers.adapters.keys import load_private_key
    from workers.adapters.object_store import open_reader
    from workers.adapters.scribe import ChainScribe
    from workers.adapters.signing import EnvelopeSealer
    from workers.adapters.telemetry import telemetry as open_telemetry
    from workers.core.envelope import Envelope
    from workers.core.errors import MalformedMessage
    from workers.core.ids import ChainId
    from workers.gateway.desk import Desk
    from workers.gateway.http.app import build
    from workers.gateway.loop import Appender, Loop
    from workers.gateway.permissions import ADMIN
    from workers.gateway.principals import RateLimit, Tokens
    from workers.gateway.trail import Trail

    instance = str(uuid.uuid4())
    clock, chance, codec = SystemClock(), SystemChance(), AvroCodec()
    telemetry = open_telemetry(settings.telemetry, worker="gateway", instance_id=instance)
    sealer = EnvelopeSealer(load_private_key(settings.keys.private_key), codec)
    outbox = MemoryOutbox(ChainId(f"gateway/{instance}"))
    scribe = ChainScribe("gateway", sealer=sealer, codec=codec)
    trail = Trail(scribe, outbox.begin, clock)
    history = open_history(settings.history, codec)
    # A writer belongs to one thread: callers' records and the audit trail have one each.
    records = KafkaLogWriter(settings.kafka, telemetry=telemetry, clock=clock)
    audit = KafkaLogWriter(settings.kafka, telemetry=telemetry, clock=clock)
    appender = Appender(records)

    def signer(signed: bytes) -> str:
        try:
            return codec.decode(signed, Envelope).key_id
        except MalformedMessage:
            return ""

    def close() -> None:
        records.close()
        audit.close()
        history.close()

    desk = Desk(
        history=history,
        catalogue={action.name: action for action in CATALOGUE},
        append=appender.append,
        split=alerts_in,
        codec=codec,
        trail=trail,
        telemetry=telemetry,
        clock=clock,
        chance=chance,
        objects=open_reader(settings.storage),
    )
    return Loop(
        build(
            desk,
            tokens=Tokens({settings.admin_token_sha256: ADMIN}),
            limit=RateLimit(settings.requests_per_minute, clock),
            signer=signer,
        ),
        host=settings.host,
        port=settings.port,
        appender=appender,
        relay=OutboxRelay(
            outbox,
            audit,
            failpoints=failpoints(os.environ),
            telemetry=telemetry,
            clock=clock,
            refused=Unsendable(outbox.begin, scribe, clock.now_ns, telemetry),
        ),
        trail=trail,
        telemetry=telemetry,
        clock=clock,
        close=close,
    )
