"""The gateway, put together.

Called by ``wiring.ROLES``.
"""

import os
import uuid

from workers.settings import GatewaySettings
from workers.system.ports import Runnable


def gateway(settings: GatewaySettings) -> Runnable:
    """The HTTP gateway: its own key signs its audit chain and nothing else.

    Raises:
        ConfigError: a key, the history store, the object store or the broker's settings cannot be used.
        TransientFailure: the history store is busy.
    """
    from workers.actions import CATALOGUE
    from workers.domain.errors import MalformedMessage
    from workers.domain.ids import ChainId
    from workers.domain.trust.envelope import Envelope
    from workers.gateway.http.app import build
    from workers.gateway.intake import Intake
    from workers.gateway.loop import Appender, Loop
    from workers.gateway.permissions import ADMIN
    from workers.gateway.principals import RateLimit, Tokens
    from workers.gateway.trail import Trail
    from workers.log.memory_outbox import MemoryOutbox
    from workers.log.relay import OutboxRelay
    from workers.log.unsendable import Unsendable
    from workers.log.writer import KafkaLogWriter
    from workers.store.history.store import open_history
    from workers.store.objects.stores import open_reader
    from workers.system.clock import SystemClock
    from workers.system.failpoints import failpoints
    from workers.system.randomness import SystemRandomness
    from workers.system.telemetry import telemetry as open_telemetry
    from workers.wire.avro import AvroCodec
    from workers.wire.event_reader import alerts_in
    from workers.wire.keys import load_private_key
    from workers.wire.recorder import ChainRecorder
    from workers.wire.signing import EnvelopeSigner

    instance = str(uuid.uuid4())
    clock, randomness, codec = SystemClock(), SystemRandomness(), AvroCodec()
    telemetry = open_telemetry(settings.telemetry, worker="gateway", instance_id=instance)
    signer = EnvelopeSigner(load_private_key(settings.keys.private_key), codec)
    outbox = MemoryOutbox(ChainId(f"gateway/{instance}"))
    recorder = ChainRecorder("gateway", signer=signer, codec=codec)
    trail = Trail(recorder, outbox.begin, clock)
    history = open_history(settings.history, codec)
    # A writer belongs to one thread: callers' records and the audit trail have one each.
    records = KafkaLogWriter(settings.kafka, telemetry=telemetry, clock=clock)
    audit = KafkaLogWriter(settings.kafka, telemetry=telemetry, clock=clock)
    appender = Appender(records)

    def signer_of(signed: bytes) -> str:
        try:
            return codec.decode(signed, Envelope).key_id
        except MalformedMessage:
            return ""

    def close() -> None:
        records.close()
        audit.close()
        history.close()

    intake = Intake(
        history=history,
        catalogue={action.name: action for action in CATALOGUE},
        append=appender.append,
        split=alerts_in,
        codec=codec,
        trail=trail,
        telemetry=telemetry,
        clock=clock,
        randomness=randomness,
        objects=open_reader(settings.storage),
    )
    return Loop(
        build(
            intake,
            tokens=Tokens({settings.admin_token_sha256: ADMIN}),
            limit=RateLimit(settings.requests_per_minute, clock),
            signer=signer_of,
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
            refused=Unsendable(outbox.begin, recorder, clock.now_ns, telemetry),
        ),
        trail=trail,
        telemetry=telemetry,
        clock=clock,
        close=close,
    )
