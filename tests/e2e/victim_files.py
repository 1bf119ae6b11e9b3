"""Files that workers may take away and give back, each with everything a file can have: the oracle of quarantines.

Used by `client.py`. What is true is read from directories and from the vault by the kernel and the compressor's own
library; no manifest, journal or worker is asked. Every file has a directory of its own, so that whatever is left lying
about shows.
"""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import zstandard

from tests.quarantined_files import ACL, FileState, acl, content, data_map, file_state

_SIZES: Final = (1, 700, 5_000, 60_000)
_MODES: Final = (0o644, 0o755, 0o400, 0o000, 0o777, 0o1777, 0o640)
"""None that takes two people's signatures to come back."""
_NAMES: Final = ("mal", "with space", "new\nline", "ü", "-rf", "n" * 255)


@dataclass(frozen=True, slots=True)
class _Kept:
    content: bytes
    packed: bytes
    """What of it is no hole: the vault keeps that, and where it was."""
    state: FileState
    inode: int
    changed_ns: int


class VictimFiles:
    """Makes files, and says what has become of them."""

    def __init__(self, directory: Path, vault: Path) -> None:
        """`vault` is the node's."""
        self._directory = directory
        self._vault = vault
        self._made: dict[Path, _Kept] = {}
        self._numbers = itertools.count()

    def spawn(self) -> Path:
        """One more file, unlike the others."""
        number = next(self._numbers)
        randomness = random.Random(number)
        path = self._directory / str(number) / randomness.choice(_NAMES)
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.write(os.urandom(16) + randomness.randbytes(randomness.choice(_SIZES)))
            if randomness.random() < 0.2:
                file.truncate(file.tell() + 300_000)
        if os.geteuid() == 0:
            os.chown(path, *randomness.choice([(0, 0), (1000, 1000), (65534, 12)]))
        mode = randomness.choice(_MODES)
        path.chmod(mode)
        if randomness.random() < 0.5:
            os.setxattr(path, "user.origin", randomness.randbytes(50))
        if randomness.random() < 0.3:
            os.setxattr(path, ACL, acl(mode, user=1234))
        os.utime(path, ns=(randomness.randrange(2**32 * 10**9), randomness.randrange(2**32 * 10**9)))
        found, whole = path.lstat(), content(path)
        packed = b"".join(whole[start:end] for start, end in data_map(path))
        self._made[path] = _Kept(whole, packed, file_state(path), found.st_ino, found.st_ctime_ns)
        return path

    def untouched(self, path: Path) -> str:
        """What is wrong with a file that nothing may have touched, not even for a moment; empty when nothing is."""
        output = self.back(path)
        if output:
            return output
        found, kept = path.lstat(), self._made[path]
        return "" if (found.st_ino, found.st_ctime_ns) == (kept.inode, kept.changed_ns) else "it was touched"

    def away(self, path: Path, execution_id: str) -> str:
        """What is wrong with a file that is to be in the vault, as the object of this execution, and nowhere else."""
        left = self._left(path)
        if left:
            return f"its directory has {left}"
        stored = self._object(self._vault / execution_id)
        return "" if stored == self._made[path].packed else "the vault's object is not what it was"

    def back(self, path: Path) -> str:
        """What is wrong with a file that is to be there with everything it had, and nothing beside it."""
        left = self._left(path)
        if left != [path.name]:
            return f"its directory has {left}"
        before, after = asdict(self._made[path].state), asdict(file_state(path))
        differs = [field for field, value in before.items() if after[field] != value]
        return f"{differs} are not what they were" if differs else ""

    def lost(self) -> list[Path]:
        """Files whose whole content is nowhere: not under their name, not parked beside it, not in the vault. To be
        asked while no node runs, which could be moving one just now."""
        objects = {self._object(path) for path in self._vault.glob("*") if not path.suffix and path.is_file()}
        return [
            path
            for path, kept in list(self._made.items())
            if kept.packed not in objects and kept.content not in self._beside(path)
        ]

    def litter(self) -> list[str]:
        """Half copies in the vault."""
        return [path.name for path in self._vault.glob("*.part")]

    @staticmethod
    def _left(path: Path) -> list[str]:
        return sorted(entry.name for entry in path.parent.iterdir())

    @staticmethod
    def _beside(path: Path) -> set[bytes]:
        return {content(found) for found in path.parent.rglob("*") if found.is_file()}

    @staticmethod
    def _object(path: Path) -> bytes:
        try:
            with (
                path.open("rb") as file,
                zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream,
            ):
                return stream.read()
        except (OSError, zstandard.ZstdError):
            return b""
