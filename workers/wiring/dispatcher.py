"""The dispatcher, put together. Imported by ``wiring.ROLES`` only when a dispatcher starts."""

from contextlib import ExitStack

from workers.actions import CATALOGUE
from workers.dispatcher.dispatcher import Dispatcher
from workers.dispatcher.loop import Loop
from workers.dispatcher.services import Services
from workers.dispatcher.tails import Tails
from workers.domain.policy import decide
from workers.domain.trust.keyset import KeyRole
from workers.settings import DispatcherSettings
from workers.store.ledger import SqliteLedger
from workers.system.ports import Runnable
from workers.wiring.kit import Kit


def dispatcher(settings: DispatcherSettings) -> Runnable:
    """The dispatcher; it holds the command key.

    Raises:
        ConfigError: ledger, keys, keyset or broker settings cannot be used.
        InUse: another dispatcher has the ledger.
        LimitExceeded, PermanentFailure: the ledger's disk is full or damaged.
    """
    with ExitStack() as opened:
        kit = Kit("dispatcher", settings, opened)
        ledger = kit.opened(SqliteLedger(settings.ledger, randomness=kit.randomness))
        tails = Tails(kit.writer())
        services = Services(
            codec=kit.codec,
            verifier=kit.verifier(KeyRole.DISPATCHER),
            signer=kit.signer,
            recorder=kit.recorder,
            telemetry=kit.telemetry,
            tails=tails,
            actions={action.name: action for action in CATALOGUE},
            zones=settings.zones,
            silent_after_s=settings.silent_after_s,
            decide=decide,
            left_nodes=kit.left_nodes,
        )
        loop = Loop(
            services,
            Dispatcher(services, ledger, clock=kit.clock, failpoints=kit.failpoints),
            reader=kit.reader(),
            relay=kit.relay(ledger, tails, refused=kit.unsendable(ledger.begin)),
            clock=kit.clock,
            close=opened.pop_all().close,
        )
        return kit.following(loop, ledger.begin)
