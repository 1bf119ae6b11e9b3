"""Real cgroups for tests, of both versions, named as container runtimes name them, or as somebody who copies them does.

What is left in one is killed when the test is over, and the cgroup removed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.components import require
from tests.victims import wait_until

_CGROUPS: Final = Path("/sys/fs/cgroup")


class Cgroups:
    """One hierarchy: ``freezer`` (version 1) or ``unified`` (version 2)."""

    def __init__(self, hierarchy: str) -> None:
        require("root", "cgroups are made by root")
        if hierarchy == "unified":
            places = (_CGROUPS, _CGROUPS / "unified")
            found = next((place for place in places if (place / "cgroup.controllers").exists()), None)
        else:
            found = next((place for place in [_CGROUPS / hierarchy] if (place / "cgroup.procs").exists()), None)
        require(f"the cgroup hierarchy {hierarchy}", "containers are told by it", present=found is not None)
        assert found is not None
        self.old = hierarchy != "unified"
        self._top = found / f"douse-test-{uuid.uuid4().hex[:8]}"
        self._top.mkdir(mode=0o755)

    def make(self, path: str, *owners: int) -> Path:
        """A cgroup below this test's own; ``owners`` own the topmost directories of the path, one each."""
        at = self._top
        for depth, part in enumerate(path.split("/")):
            at = at / part
            at.mkdir(mode=0o755, exist_ok=True)
            if depth < len(owners):
                for each in (at, at / "cgroup.procs"):
                    os.chown(each, owners[depth], owners[depth])
        return at

    def put(self, at: Path, *pids: int) -> None:
        """Move processes in."""
        for pid in pids:
            (at / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def close(self) -> None:
        """Kill what is left, and remove all."""
        for directory in [path for path, _, _ in os.walk(self._top, topdown=False)]:
            at = Path(directory)
            for pid in (at / "cgroup.procs").read_text(encoding="ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(OSError):
                (at / ("freezer.state" if self.old else "cgroup.freeze")).write_text("THAWED" if self.old else "0")
            wait_until(lambda at=at: not (at / "cgroup.procs").read_text(encoding="ascii").strip())  # type: ignore[misc]
            at.rmdir()


@contextlib.contextmanager
def cgroups(hierarchy: str) -> Iterator[Cgroups]:
    """Cgroups for the length of a block."""
    made = Cgroups(hierarchy)
    try:
        yield made
    finally:
        made.close()
