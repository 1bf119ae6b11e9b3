"""A directory that only this worker's user may read: made, opened, checked.

Called by the spool and by the object store's directory; each opens its own once and works by its descriptor.
"""

import os
import stat
from pathlib import Path

from workers.domain.errors import PermanentFailure


def open_private(path: Path, *, code: str) -> int:
    """Its descriptor; it is made (0700) where it is missing.

    Raises:
        PermanentFailure: with ``code``: it cannot be made, or others could look into it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be used: {(error.strerror or str(error)).lower()}", code=code) from error
    found = os.fstat(directory)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(directory)
        raise PermanentFailure(f"{path} must belong to this worker's user, with mode 0700", code=code)
    return directory
