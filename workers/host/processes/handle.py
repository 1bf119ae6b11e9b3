"""One held process: a pidfd, what was read of it where it was, and what can be done to it.

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
from workers.host.processes import kin
from workers.host.processes.holding import ended, while_held
from workers.host.processes.snapshot import SnapshotReader

_FIRST_LOOK_S: Final = 0.0002
"""Between looks at threads that are about to stop, doubled each time: most have stopped by the first."""
_LAST_LOOK_S: Final = 0.02


class HeldPidfd:
    """One held process."""

    def __init__(self, descriptor: int, pid: int, *, read: Callable[[int, int], ProcessFacts | None]) -> None:
        """Takes ``descriptor`` over; ``read`` reads the facts of what it holds."""
        self._descriptor = descriptor
        self._pid = pid
        self._read = read

    def refresh(self) -> ProcessFacts | None:
        """The facts now; None when it has ended."""
        return None if ended(self._descriptor) else self._read(self._pid, self._descriptor)

    def signal(self, number: int) -> bool:
        """Send a signal to this process; False when it has ended."""
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
        """Send a signal to each thread by itself, where the kernel can."""
        while_held(self._pid, self._descriptor, lambda: kin.signal_each(self._pid, self._descriptor, number))

    def threads(self) -> tuple[ThreadFacts, ...] | None:
        """Its threads; None when it has ended."""
        return while_held(self._pid, self._descriptor, lambda: kin.threads(self._pid))

    def wait_threads(
        self, settled: Callable[[Sequence[ThreadFacts]], bool], timeout_s: float
    ) -> tuple[ThreadFacts, ...] | None:
        """Block until its threads look as wanted, or the time is over; what was seen last, None when it has ended."""
        give_up = time.monotonic() + timeout_s
        pause_s = _FIRST_LOOK_S
        while (seen := self.threads()) is not None and not settled(seen):
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LAST_LOOK_S)
        return seen

    def children(self) -> tuple[int, ...] | None:
        """The pids of its children; None when it has ended."""
        return while_held(self._pid, self._descriptor, lambda: kin.children(self._pid))

    def snapshot(self, *, timeout_s: float) -> ProcessSnapshot | None:
        """Everything the kernel shows of it; None when it has ended."""
        facts = self.refresh()
        return (
            SnapshotReader(self._pid, self._descriptor, timeout_s=timeout_s).take(facts) if facts is not None else None
        )

    def wait_gone(self, timeout_s: float) -> bool:
        """Block until every thread of it has ended, or the time is over."""
        return ended(self._descriptor, timeout_s)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PidfdHandle(HeldPidfd):
    """One held process of which is known what it is."""

    def __init__(
        self, descriptor: int, facts: ProcessFacts, *, read: Callable[[int, int], ProcessFacts | None]
    ) -> None:
        """``facts`` were read while ``descriptor`` held it."""
        super().__init__(descriptor, facts.pid, read=read)
        self._facts = facts

    @property
    def facts(self) -> ProcessFacts:
        """As read at opening."""
        return self._facts
