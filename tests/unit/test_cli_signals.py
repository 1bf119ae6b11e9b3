"""A worker stops on a signal, whatever its main thread is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

_INSIDE_A_WAIT = """
import signal
from workers.cli.worker import stop_on_signals
stop = stop_on_signals()
with stop._cond:  # where the main thread is when it enters a wait, or when another signal is being handled
    signal.raise_signal(signal.SIGTERM)
stop.wait()
print("stopped", flush=True)
"""


def test_a_signal_that_interrupts_the_main_thread_inside_the_event_does_not_hang_it() -> None:
    command = [sys.executable, "-c", _INSIDE_A_WAIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_is_enough(number: signal.Signals) -> None:
    code = "from workers.cli.worker import stop_on_signals; s = stop_on_signals(); print('up', flush=True); s.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        os.kill(process.pid, number)
        assert process.wait(30) == 0
