"""Which machine this is: its node id, its key among clones, its host names.

Made by wiring for the node worker. The machine id itself never leaves this file: only keyed hashes of it
do. A node id is chosen once, at first start, and kept beside the journal; from then on it never changes.
"""

import hmac
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from workers.domain.errors import ConfigError, Problem
from workers.domain.ids import NodeId, is_node_id
from workers.system.ports import Randomness

MACHINE_ID_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))

_NODE_ID: Final = b"douse node id 1"
_MACHINE_KEY: Final = b"douse machine key 1"
_KEPT_AS: Final = "node_id"


class Machine:
    """Facts of this machine, read once."""

    def __init__(self, randomness: Randomness, *, machine_id_files: Sequence[Path] = MACHINE_ID_FILES) -> None:
        """A machine without a machine id (a minimal container) gets a random one for this start."""
        found = (_read(path) for path in machine_id_files)
        self._machine_id = next((text for text in found if text), None) or randomness.bytes(16).hex()

    @property
    def machine_key(self) -> str:
        """A keyed hash of the machine id, 32 hex: shows a key that was copied to another machine."""
        return self._hash(_MACHINE_KEY)

    @property
    def host_names(self) -> tuple[str, ...]:
        """What the kernel calls this host."""
        return (socket.gethostname(),)

    def node_id(self, data_dir: Path, configured: str) -> NodeId:
        """The id kept in ``data_dir``; at first start the configured one, or one made from the machine id, is kept.

        Raises:
            ConfigError: the configured id is not the kept one, or the directory cannot be used.
        """
        path = data_dir / _KEPT_AS
        kept = _read(path)
        if not kept:
            chosen = configured or self._hash(_NODE_ID)
            _keep(path, chosen)
            return NodeId(chosen)
        if not is_node_id(kept):
            raise ConfigError((Problem(str(path), "holds no node id; restore it, or start with a new data directory"),))
        if configured not in ("", kept):
            reason = f"is {configured}, but this data directory belongs to node {kept}; a node id never changes"
            raise ConfigError((Problem("node.id", reason),))
        return NodeId(kept)

    def _hash(self, key: bytes) -> str:
        return hmac.digest(key, self._machine_id.encode(), "sha256").hex()[:32]


def kept_node_id(data_dir: Path) -> str:
    """The id that an earlier start kept; empty where there was none.

    Raises:
        ConfigError: it cannot be read.
    """
    return _read(data_dir / _KEPT_AS)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((Problem(str(path), f"cannot be read: {error}"),)) from error


def _keep(path: Path, text: str) -> None:
    """Whole or not at all, and on the disk before it is used."""
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with fresh.open("w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigError((Problem(str(path), f"cannot be written: {error.strerror}"),)) from error
