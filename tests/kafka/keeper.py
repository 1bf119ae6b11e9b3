"""Holds one broker process and ends it when whoever asked for it is gone.

Started by `node.py` as a process of its own: `keeper.py CONSOLE COMMAND…`. It writes the broker's process id
as one line to stdout, then waits. When stdin ends (the test process closed it or died, however it died) or
the broker ends, nothing is left running. It must never import anything beyond the standard library.

Why a process and not PR_SET_PDEATHSIG in the test process: that signal follows the *thread* that started the
child, and tests restart brokers from threads that end. Here the only thread is the main one.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(console: str, *command: str) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    keeper = os.getpid()

    def die_with_the_keeper() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it died between fork and prctl
            os._exit(1)

    with Path(console).open("ab") as output:
        broker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=die_with_the_keeper
        )
    os.write(1, f"{broker.pid}\n".encode())
    ended = os.pidfd_open(broker.pid)
    poller = select.poll()
    poller.register(0, select.POLLIN | select.POLLHUP)
    poller.register(ended, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll()}
        if ended in ready:
            return broker.wait() & 0xFF
        if not os.read(0, 64):
            broker.kill()
            broker.wait()
            return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
