"""What this worker lives by, as files: its data, secrets and settings, what it has open or mapped, and its own code.

Called by ``protected`` for the vault and the spool, anew before each action: judged by identity (device and inode), so
that a link under another name counts and a file that merely has the name does not.
"""

import os
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from workers.domain.targets.file import FileIdentity
from workers.domain.targets.protected_files import ProtectedPaths
from workers.host.files.paths import identity
from workers.system.parent import ancestors, relatives

_PACKAGE: Final = Path(__file__).resolve().parents[2]
"""The import package, wherever it was installed: an editable install lies outside of every prefix."""

_DATA: Final = ("schemas", "topics")
_IS_OPEN: Final = "is open in this worker"
_SITE: Final = frozenset({"site-packages", "dist-packages"})


class OwnFiles:
    """One worker's."""

    def __init__(self, trees: Mapping[Path, str]) -> None:
        """``trees`` are its files and directories (data, keys, settings), each with the rest of a sentence that begins
        with "it". What this process has open now counts from now on; what an action opens later does not."""
        self._trees = trees
        self._opened = dict.fromkeys(_open_files(os.getpid()), _IS_OPEN)
        self._code = dict.fromkeys(code_directories(), "is this worker's own program")
        self._modules = tuple(_modules_outside(self._code))

    def secrets(self) -> ProtectedPaths:
        """What is never even read: data, keys, tokens, settings, and files open in this worker or one beside it."""
        files = dict(self._opened)
        for pid in relatives():
            files |= dict.fromkeys(_open_files(pid), "is open in a worker beside this one")
        return ProtectedPaths(files, identities(self._trees))

    def everything(self) -> ProtectedPaths:
        """That, and the code: may be read, never taken."""
        known = self.secrets()
        files = dict.fromkeys(_of(_mapped_here()), "is part of this worker")
        files |= dict.fromkeys(_of(self._modules), "is part of this worker")
        line = [pid for pid in (*ancestors(), *relatives()) if pid > 1]
        files |= dict.fromkeys(_of(f"/proc/{pid}/exe" for pid in line), "runs this worker, or one beside it")
        return ProtectedPaths({**files, **known.files}, {**identities(self._code), **known.trees})


def code_directories() -> tuple[Path, ...]:
    """The environment's prefix, the standard library, the packages beside it, and this package itself."""
    library = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    packages = {entry for entry in sys.path if Path(entry).name in _SITE}
    prefix = {sys.prefix} if sys.prefix != sys.base_prefix else set()
    data = {str(path) for name in _DATA if (path := _PACKAGE.parent / name).is_dir()}
    return tuple(Path(name) for name in sorted({*library, *packages, *prefix, *data, str(_PACKAGE)}) if name)


def identities(paths: Mapping[Path, str]) -> Mapping[FileIdentity, str]:
    """What the paths lead to at this moment."""
    return {found: reason for path, reason in paths.items() for found in _of([str(path)])}


def _of(names: Iterable[str]) -> Iterator[FileIdentity]:
    for name in names:
        try:
            yield identity(os.stat(name))  # noqa: PTH116 - links are followed: what they lead to is protected
        except OSError:
            continue


def _open_files(pid: int) -> Iterator[FileIdentity]:
    """The regular files that a process has open, also those that have no name any more."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - names alone are wanted
    except OSError:
        return
    for name in names:
        try:
            found = os.stat(f"/proc/{pid}/fd/{name}")  # noqa: PTH116 - a link of the kernel's
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode):
            yield identity(found)


def _mapped_here() -> set[str]:
    """Interpreter, C library, loader and every extension module of this process, and the interpreter as it was
    called; the link of the kernel's leads to the real one behind a virtual environment's."""
    with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
        words = [line.rstrip("\n").split(None, 5) for line in lines]
    mapped = {found[5] for found in words if len(found) == 6 and found[5].startswith("/")}
    return mapped | {sys.executable, "/proc/self/exe"}


def _modules_outside(directories: Iterable[Path]) -> Iterator[str]:
    """Modules that were loaded from somewhere else: another editable install, a ``PYTHONPATH``."""
    known = tuple(f"{os.path.realpath(path)}/" for path in directories)
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str) and not os.path.realpath(name).startswith(known):
            yield name
