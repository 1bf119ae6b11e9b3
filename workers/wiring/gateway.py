"""The gateway, put together. Imported by ``wiring.ROLES`` only when a gateway starts."""

from contextlib import ExitStack

from workers.actions import CATALOGUE
from workers.domain.errors import MalformedMessage
from workers.domain.trust.envelope import Envelope
from workers.domain.trust.keyset import KeyRole
from workers.gateway.audit_trail import AuditTrail
from workers.gateway.http.app import build
from workers.gateway.intake import GatewayIntake
from workers.gateway.loop import Appender, Loop
from workers.gateway.permissions import ADMIN
from workers.gateway.principals import RateLimit, Tokens
from workers.settings import GatewaySettings
from workers.store.history.store import open_history
from workers.store.objects.stores import open_reader
from workers.system.ports import Runnable
from workers.wire.event_reader import alerts_in
from workers.wiring.kit import Kit


def gateway(settings: GatewaySettings) -> Runnable:
    """The HTTP gateway: its own key signs requests of people, events it received, and its audit chain.

    Raises:
        ConfigError: a key, the history store, the object store or the broker's settings cannot be used.
        TransientFailure: the history store is busy.
    """
    with ExitStack() as opened:
        kit = Kit("gateway", settings, opened)
        kit.keyset(KeyRole.GATEWAY)
        history = kit.opened(open_history(settings.history, kit.codec))
        outbox = kit.memory_outbox()
        trail = AuditTrail(kit.recorder, outbox.begin, kit.clock)
        # A writer belongs to one thread: callers' records and the audit trail have one each.
        appender, audit = Appender(kit.writer()), kit.writer()

        def signer_of(signed: bytes) -> str:
            try:
                return kit.codec.decode(signed, Envelope).key_id
            except MalformedMessage:
                return ""

        intake = GatewayIntake(
            history=history,
            catalogue={action.name: action for action in CATALOGUE},
            append=appender.append,
            split=alerts_in,
            signer=kit.signer,
            trail=trail,
            telemetry=kit.telemetry,
            clock=kit.clock,
            randomness=kit.randomness,
            objects=open_reader(settings.storage),
        )
        tokens = Tokens({settings.admin_token_sha256: ADMIN})
        app = build(
            intake,
            tokens=tokens,
            limit=RateLimit(settings.requests_per_minute, kit.clock),
            signer=signer_of,
            keyset=kit.keyset,
        )
        loop = Loop(
            app,
            is_valid=tokens.is_valid,
            host=settings.host,
            port=settings.port,
            appender=appender,
            relay=kit.relay(outbox, audit, refused=kit.unsendable(outbox.begin)),
            trail=trail,
            telemetry=kit.telemetry,
            clock=kit.clock,
            close=opened.pop_all().close,
        )
        return kit.following(loop, outbox.begin)
