"""How many descriptors this worker may have open: each held process is one, and a tree may have thousands.

Called once by ``wiring`` for the node worker. The limit that a shell or systemd sets first (1,024) is for programs
that use ``select``; we and what we link to poll.
"""

import resource
from contextlib import suppress
from typing import Final

WANTED: Final = 16_384
"""A tree of 2,048 in each of the eight hands of the containment lane."""


def allow_many() -> int:
    """Raise the limit as far as is wanted and permitted; what it is now. A lower one only makes trees die in rounds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED:
        most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
