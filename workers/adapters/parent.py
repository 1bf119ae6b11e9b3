"""Ties a worker's life to the supervisor that started it, so that no worker outlives a killed ``douse up``.

Called by ``cli.roles`` at start, only when the supervisor says so. Linux's PR_SET_PDEATHSIG, asked for by the child
itself: between fork and exec is no place for Python code in a process that has threads.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def end_with(supervisor_pid: int) -> bool:
    """Have the kernel send SIGTERM when the supervisor ends; False when it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == supervisor_pid
