"""One held process: a pidfd, what was read of it where it was, and the two things that can be done to it.

Made by ``system``, used by actions through the port ``ProcessHandle``. It must never signal a pid: only its descriptor,
which never becomes another process.
"""

import os
import select
import signal
from collections.abc import Callable

from workers.core.errors import PermanentFailure
from workers.core.process import ProcessFacts


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


def ended(descriptor: int, timeout_s: float = 0.0) -> bool:
    """A pidfd becomes readable when the last thread has ended, whether or not somebody has reaped it."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(max(0.0, timeout_s) * 1000))
