"""A container made by hand: a process whose root is an overlay of its own, in a mount namespace of its own.

For tests that need real overlays without a container engine, and a "root inside" that they can order about. Its init is
a static busybox; whatever the test lays in ``lower`` before ``start`` is its image.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.components import require
from workers.domain.targets.file import Enclosure

CONTAINER_ID = "c0de" * 16

_INIT = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
cd "$4"
eval "$5"
pivot_root . .old
cd /
exec /bin/busybox sh -c '/bin/busybox umount -l /.old; echo up; exec /bin/busybox sleep 1000'
"""


class Cell:
    """One container; ``start`` it again for another run."""

    def __init__(self, directory: Path, *, apart: bool = False) -> None:
        """``apart``: its layers lie on filesystems of their own, where a copied-up file may become another inode."""
        require("root", "mounts and namespaces need it")
        require("busybox", "it is the init of a container made by hand")
        require("unshare", "a mount namespace has to be made")
        self.directory = directory
        self.lower, self._top, self._merged = (directory / name for name in ("lower", "top", "merged"))
        for made in (self.lower, self._top, self._merged):
            made.mkdir(parents=True)
        self._mounted = [self.lower, self._top] if apart else []
        for at in self._mounted:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(at)], check=True)
        for made in (self._top / "upper", self._top / "work", *(self.lower / n for n in ("bin", "tmp", ".old", "etc"))):
            made.mkdir()
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, self.lower / "bin" / "busybox")
        self._process: subprocess.Popen[bytes] | None = None
        self.inside = Enclosure(CONTAINER_ID, 0, 0)

    def start(self, setup: str = "") -> Enclosure:
        """A run; ``setup`` are commands of a shell in its root before it is locked in."""
        self.stop()
        layers = (self.lower, self._top / "upper", self._top / "work", self._merged)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _INIT, "sh", *map(str, layers), setup]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"up\n"
        self.inside = Enclosure(CONTAINER_ID, time.time_ns(), self._process.pid)
        return self.inside

    def stop(self) -> None:
        """Its run ends; what it has stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def close(self) -> None:
        """Without a trace."""
        self.stop()
        for at in self._mounted:
            subprocess.run(["umount", "-l", str(at)], check=True)

    def path(self, inside: str) -> Path:
        """A file of it as the host sees it; only names that no link leads through."""
        return Path(f"/proc/{self.inside.pid}/root{inside}")

    def run(self, script: str) -> None:
        """Be root inside: a shell in its namespaces."""
        subprocess.run(
            ["nsenter", "-t", str(self.inside.pid), "-m", "-r", "/bin/busybox", "sh", "-c", script],
            check=True,
            cwd="/",
            env={**os.environ, "PATH": "/bin"},
        )
