"""On an overlay, a file of a lower layer made a file of the upper one, before anything depends on its identity.

Called by ``vault``. Moving such a file copies it up and may make it another inode, so that after the move nobody could
say by its identity that it is the one that was meant. Giving it the mode that it has copies it up too, in place and
through a descriptor that holds it all the while: what the descriptor says afterwards is its identity for good.
"""

import os
import stat

from workers.domain.targets.file import FileIdentity
from workers.host.files import facts, paths


def lift(directory: int, name: bytes, expected: FileIdentity) -> FileIdentity:
    """The identity that it keeps. Raises ``OSError`` (``FileNotFoundError`` where another file has the name)."""
    held = facts.hold(directory, name)
    try:
        found = os.fstat(held)
        if paths.identity(found) != expected or not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(name)
        os.chmod(f"/proc/self/fd/{held}", stat.S_IMODE(found.st_mode))  # noqa: PTH101 - a descriptor
        return paths.identity(os.fstat(held))
    finally:
        os.close(held)
