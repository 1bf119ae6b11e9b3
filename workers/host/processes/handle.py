"""One held process: a pidfd, the facts that were read at opening, and what can be done to it.

Made by ``system``, used by actions through the port ``ProcessHandle``. It must never signal a pid: only its descriptor,
which never becomes another process.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from workers.domain.errors import PermanentFailure
from workers.domain.targets.halting import ThreadFacts
from workers.domain.targets.process import ProcessFacts
from workers.domain.targets.process_snapshot import ProcessSnapshot
from workers.host.processes import tasks
from workers.host.processes.pidfd import ended, while_held
from workers.host.processes.snapshot import SnapshotReader

_FIRST_POLL_S: Final = 0.0002
"""Between reads of threads that are about to stop, doubled each time: most have stopped by the first."""
_LAST_POLL_S: Final = 0.02


class HeldPidfd:
    """One held process."""

    def __init__(self, descriptor: int, pid: int, *, read: Callable[[int, int], ProcessFacts | None]) -> None:
        """Takes ``descriptor`` over; ``read`` reads the facts of what it holds."""
        self._descriptor = descriptor
        self._pid = pid
        self._read = read

    def refresh(self) -> ProcessFacts | None:
        return None if ended(self._descriptor) else self._read(self._pid, self._descriptor)

    def signal(self, number: int) -> bool:
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return False
        except PermissionError as error:
            raise PermanentFailure(
                f"this worker (user {os.geteuid()}) may not signal process {self._pid}: "
                "run it as root or give it CAP_KILL",
                code="permission",
            ) from error
        return True

    def signal_each(self, number: int) -> None:
        while_held(self._pid, self._descriptor, lambda: tasks.signal_each(self._pid, self._descriptor, number))

    def threads(self) -> tuple[ThreadFacts, ...] | None:
        return while_held(self._pid, self._descriptor, lambda: tasks.threads(self._pid))

    def wait_threads(
        self, settled: Callable[[Sequence[ThreadFacts]], bool], timeout_s: float
    ) -> tuple[ThreadFacts, ...] | None:
        give_up = time.monotonic() + timeout_s
        pause_s = _FIRST_POLL_S
        while (found := self.threads()) is not None and not settled(found):
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LAST_POLL_S)
        return found

    def children(self) -> tuple[int, ...] | None:
        return while_held(self._pid, self._descriptor, lambda: tasks.children(self._pid))

    def snapshot(self, *, timeout_s: float) -> ProcessSnapshot | None:
        facts = self.refresh()
        return (
            SnapshotReader(self._pid, self._descriptor, timeout_s=timeout_s).take(facts) if facts is not None else None
        )

    def wait_gone(self, timeout_s: float) -> bool:
        return ended(self._descriptor, timeout_s)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PidfdHandle(HeldPidfd):
    """One held process with its facts."""

    def __init__(
        self, descriptor: int, facts: ProcessFacts, *, read: Callable[[int, int], ProcessFacts | None]
    ) -> None:
        """``facts`` were read while ``descriptor`` held it."""
        super().__init__(descriptor, facts.pid, read=read)
        self._facts = facts

    @property
    def facts(self) -> ProcessFacts:
        return self._facts
