"""A driver that starts in milliseconds and meets a fault in one chosen system call, as often as a sweep needs it.

One process has imported the driver's module and forks a child for each run; strace attaches to the child, which waits,
and only then the driver's ``main`` begins: what strace counts are the driver's own calls. Called by the sweeps; it must
never run a driver in the process that imported it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


@dataclass(frozen=True, slots=True)
class Run:
    """How one run of the driver ended."""

    status: int
    output: str
    injected: bool
    """Whether there was such a call."""


class TracedDriver:
    """Runs ``main`` of one module, each time in a process of its own."""

    def __init__(self, module: str, scratch: Path) -> None:
        self._output, self._trace = scratch / "driver.output", scratch / "driver.trace"
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__, module, str(self._output)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _pipe(self._server.stdin).close()
        _pipe(self._server.stdout).close()
        assert self._server.wait(60) == 0

    def run(self, *arguments: str, inject: str = "", environment: Mapping[str, str] | None = None) -> Run:
        """Run it to its end, with a fault as strace's ``inject=`` takes it: ``fsync:signal=KILL:when=3``."""
        self._send({"arguments": arguments, "environment": dict(environment or {})})
        pid = int(self._receive())
        tracer = self._attach(pid, inject) if inject else None
        self._send("begin")
        status = int(self._receive())
        trace = ""
        if tracer is not None:
            _, complaint = tracer.communicate(timeout=60)
            assert tracer.returncode == 0, complaint
            trace = self._trace.read_text("utf-8", "replace")
        injected = "INJECTED" in trace or "killed by SIGKILL" in trace
        return Run(status, self._output.read_text("utf-8", "replace"), injected)

    def _attach(self, pid: int, inject: str) -> subprocess.Popen[str]:
        call = inject.partition(":")[0]
        tracer = subprocess.Popen(
            ["strace", "-o", self._trace, "-e", f"trace={call}", "-e", f"inject={inject}", "-p", str(pid)],
            stderr=subprocess.PIPE,
            text=True,
        )
        line = _pipe(tracer.stderr).readline()
        assert "attached" in line, line
        return tracer

    def _send(self, request: object) -> None:
        pipe = _pipe(self._server.stdin)
        pipe.write(json.dumps(request) + "\n")
        pipe.flush()

    def _receive(self) -> str:
        line = _pipe(self._server.stdout).readline()
        assert line, "the process that forks the driver has ended"
        return line


def sweep(calls: Sequence[str], once: Callable[[str, int], bool], *, most: int) -> int:
    """Every nth call of every kind until ``once`` says that there was no such call; how many there were.

    ``most`` is far above the calls of one run: a sweep that reaches it counts something else.
    """
    hit = 0
    for call in calls:
        for nth in range(1, most):
            if not once(call, nth):
                break
            hit += 1
        else:
            raise AssertionError(f"{call}: the sweep never came to its end")
    return hit


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _serve(main: Callable[[], Any], output: str) -> None:
    """Fork for each request on standard input; answer with the child's pid, and at its end with its status."""
    for line in sys.stdin:
        request = json.loads(line)
        waiting, beginning = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(beginning)
            _child(main, request, waiting, output)
        os.close(waiting)
        print(pid, flush=True)
        sys.stdin.readline()
        os.close(beginning)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _child(main: Callable[[], Any], request: Mapping[str, Any], waiting: int, output: str) -> None:
    for descriptor, path in ((1, output), (2, f"{output}.errors")):
        written = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(written, descriptor)
        os.close(written)
    sys.argv[1:] = request["arguments"]
    os.environ.update(request["environment"])
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)  # where only ancestors may trace
    os.read(waiting, 1)
    os.close(waiting)
    status = 1
    try:
        status = main() or 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - whatever it is, the child ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    driver = importlib.import_module(sys.argv[1])
    gc.freeze()
    _serve(driver.main, sys.argv[2])
