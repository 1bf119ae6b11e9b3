"""The janitor: clears what gathering left behind, copies on the spool and uploads that were never finished; and checks
the vault, once.

Called by the loop's gathering threads while nothing waits there, so it never stands in a kill's way, nor a copy's. What
belongs to a command that has not ended is left alone: it will be gone on with. Must never touch a complete object.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from workers.domain.errors import WorkerError
from workers.domain.ids import NO_EXECUTION, ExecutionId
from workers.domain.journal_entry import EntryState
from workers.domain.targets.custody import executed
from workers.node.services import Services

T = TypeVar("T")

PERIOD_S: Final = 600.0
AGAIN_S: Final = 30.0
"""After a round that could not do everything: the store is away, say."""


class Janitor:
    """Holds nothing but when it is due; a round that two threads make at once does no harm."""

    def __init__(self, services: Services) -> None:
        """Due at once: a start is when there is most to clear."""
        self._services = services
        self._due_ns = 0
        self._vault_checked = False

    def step(self) -> None:
        """Make a round if one is due. Blocks on disk and network."""
        now_ns = self._services.clock.monotonic_ns()
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + round(PERIOD_S * 1e9)
        if not self._round():
            self._due_ns = now_ns + round(AGAIN_S * 1e9)

    def _round(self) -> bool:
        """Whether everything could be looked at and cleared."""
        spool, objects, me = self._services.host.spool, self._services.host.objects, self._services.identity.node_id
        whole = True
        # Names first, the journal after: whatever is there by now has its entry in the journal already.
        if spool is not None:
            whole &= self._clear("copy", spool.kept, lambda name: name, spool.discard)
        if objects is not None:
            whole &= self._clear(
                "upload", objects.unfinished, lambda key: executed(key, me) or NO_EXECUTION, objects.give_up
            )
        return self._check_vault() and whole

    def _check_vault(self) -> bool:
        """Once, at the start, report every quarantine that could not be undone; whether all could be looked at."""
        vault = self._services.host.vault
        if self._vault_checked or vault is None:
            return True
        try:
            for execution_id, why in vault.damaged():
                self._services.telemetry.log("vault_damaged", level="error", execution_id=execution_id, why=why)
        except WorkerError as error:
            self._services.telemetry.log("vault_not_checked", level="warning", reason=error.reason)
            return False
        self._vault_checked = True
        return True

    def _clear(
        self,
        what: str,
        names: Callable[[], Iterable[T]],
        owner: Callable[[T], ExecutionId],
        remove: Callable[[T], None],
    ) -> bool:
        """Remove what belongs to no unfinished execution; whether all of that could be done."""
        removed = 0
        try:
            for name in names():
                if not self._is_live(owner(name)):
                    remove(name)
                    removed += 1
        except WorkerError as error:
            self._services.telemetry.log("not_cleared", level="warning", what=what, reason=error.reason)
            return False
        finally:
            if removed:
                self._services.telemetry.log("cleared", what=what, count=removed)
        return True

    def _is_live(self, execution_id: ExecutionId) -> bool:
        entry = self._services.journal.entry(execution_id)
        return entry is not None and entry.state in (EntryState.RECEIVED, EntryState.CLAIMED)
