"""The same in Python, for machines without a C compiler; slower by two orders of magnitude.

Usage: shapeshifter.py COUNT; executes itself under changing names.
"""

import ctypes
import os
import sys

_PR_SET_NAME = 15
_NAMES = (b"sshd", b"systemd", b"kworker/0:1", b"a) S 1 (", b"x\ny", b"dockerd")

count = int(sys.argv[1])
if count == 0:
    print("ready", flush=True)
ctypes.CDLL(None).prctl(_PR_SET_NAME, _NAMES[count % len(_NAMES)], 0, 0, 0)
os.execv(sys.executable, [f"/usr/sbin/sshd-{count % 7}", "-S", __file__, str(count + 1)])
