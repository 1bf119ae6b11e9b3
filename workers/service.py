"""The runner of all five workers: start, repeat a step, back off after a failure, drain, close.

Called by each worker's ``loop.py``, which supplies the steps. A step does one piece of work and returns how many
seconds to wait before the next one, or nothing. Only this module and the loops know threads and waiting, so that every
step function can be tested without either. Decides nothing about the work; a failure that the worker did not declare as
passing always comes through.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from workers.domain.errors import TransientFailure, WorkerError, reason_of
from workers.domain.retry import backoff_s
from workers.system.ports import Runnable, StopSignal, Telemetry

Step: TypeAlias = Callable[[], float | None]

LONGEST_PAUSE_S: Final = 5.0


class Service:
    """Runs one worker's steps."""

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        retry_on: tuple[type[Exception], ...] = (TransientFailure,),
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        """A failure in ``retry_on`` passes by itself: the step is called again, after 0.1 s, 0.2 s … up to
        ``longest_pause_s``."""
        self._telemetry = telemetry
        self._retry_on = retry_on
        self._longest_pause_s = longest_pause_s

    def run(
        self,
        stop: StopSignal,
        *,
        start: Sequence[Step],
        step: Step | None,
        drain: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        """Complete every step of ``start`` in order, repeat ``step`` until ``stop`` is set, then ``drain``. Blocks.

        ``step`` is None where threads do the work: then this thread only waits. ``drain`` is also called when ``stop``
        came before ``start`` was complete; ``close`` is called last, whatever happens.
        """
        try:
            if all(self._complete(each, stop) for each in start):
                if step is None:
                    stop.wait()
                else:
                    self._repeat(step, stop)
            drain()
        finally:
            close()

    def start_thread(self, name: str, step: Step, stop: StopSignal) -> threading.Thread:
        """Repeat ``step`` in a thread until ``stop`` is set.

        A daemon: a step that hangs in the kernel must not keep the process from ending.
        """
        thread = threading.Thread(target=self._repeat, args=(step, stop), name=name, daemon=True)
        thread.start()
        return thread

    def _complete(self, step: Step, stop: StopSignal) -> bool:
        """Call ``step`` until it succeeds once; False when ``stop`` came first."""
        failures = _Failures(self._telemetry, self._longest_pause_s)
        while not stop.is_set():
            try:
                step()
            except self._retry_on as error:
                stop.wait(failures.pause_s(error))
            else:
                return True
        return False

    def _repeat(self, step: Step, stop: StopSignal) -> None:
        failures = _Failures(self._telemetry, self._longest_pause_s)
        while not stop.is_set():
            try:
                pause_s = step()
                failures.clear()
            except self._retry_on as error:
                pause_s = failures.pause_s(error)
            if pause_s:
                stop.wait(pause_s)


class Accompanied:
    """A worker with one step more beside it, in a thread of its own, which ends with the worker."""

    def __init__(
        self, worker: Runnable, step: Step, *, name: str, close: Callable[[], None], telemetry: Telemetry
    ) -> None:
        """``close`` is called after the last step."""
        self._worker = worker
        self._step = step
        self._name = name
        self._close = close
        self._telemetry = telemetry

    def run(self, stop: StopSignal) -> None:
        """Run the worker. Blocks."""
        ended = threading.Event()
        thread = Service(self._telemetry).start_thread(self._name, self._step, _Either(stop, ended))
        try:
            self._worker.run(stop)
        finally:
            ended.set()
            thread.join(LONGEST_PAUSE_S)
            if not thread.is_alive():
                self._close()


class _Either:
    """Set when one of two signals is."""

    def __init__(self, stop: StopSignal, ended: StopSignal) -> None:
        self._stop = stop
        self._ended = ended

    def is_set(self) -> bool:
        return self._stop.is_set() or self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._ended.is_set() or self._stop.wait(timeout)


class _Failures:
    """The failures of one step in a row."""

    def __init__(self, telemetry: Telemetry, longest_pause_s: float) -> None:
        self._telemetry = telemetry
        self._longest_pause_s = longest_pause_s
        self._count = 0
        self._reason = ""

    def clear(self) -> None:
        self._count, self._reason = 0, ""

    def pause_s(self, error: Exception) -> float:
        """How long to wait after this failure. Logged once for each reason in a row, not at every try."""
        self._count += 1
        reason = reason_of(error)
        if reason != self._reason:
            self._reason = reason
            known = isinstance(error, WorkerError)
            self._telemetry.log(
                "step_failed",
                level="warning" if known else "error",
                step=threading.current_thread().name,
                error=type(error).__name__,
                reason=reason,
                # The text of a bug may quote data, so only the type is logged.
                message=error.message if isinstance(error, WorkerError) else "",
            )
        asked_s = error.retry_after_s if isinstance(error, TransientFailure) else 0.0
        return max(asked_s, min(self._longest_pause_s, backoff_s(self._count)))
