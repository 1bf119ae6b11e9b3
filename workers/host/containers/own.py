"""The containers that this worker itself runs in, out of the kernel's table of its mounts. Asks no runtime."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

_OWN: Final = re.compile(r"/(?:containers|overlay-containers|sandboxes)/([0-9a-f]{64})/")
_OWN_FILES: Final = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
"""Files that a runtime mounts into each of its containers, out of a directory that has the container's id."""


def own_container_ids(root: Path = Path("/")) -> Collection[str]:
    """Their whole ids; under Kubernetes that of the pod's sandbox. ``root`` is where /proc is looked for."""
    try:
        table = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    rows = (row.split(" ") for row in table.splitlines())
    sources = (f"{row[3]}/" for row in rows if len(row) > 4 and row[4] in _OWN_FILES)
    return {found[1] for source in sources if (found := _OWN.search(source))}
