"""The keyset that a worker trusts now: its file, or a newer version that came over the bus and is kept on disk.

Made by wiring, one a worker; ``log.keysets`` passes it what lies on the topic. A version is taken up only by TUF's rule
(exactly one more, signed by operators of both), and kept before it counts, so that neither a restart without the bus
nor an old file put back makes a worker believe an older version. Called by one thread; read by any.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from workers.domain.trust.keyset import Keyset
from workers.wire.keys import files
from workers.wire.keys.keyset_document import KeysetFault, has_known_signer, load_keyset, verified

_WAITING_MOST: Final = 64
"""Versions ahead of their turn that are held: an operator who changed keys that often between two publications."""


class NewestKeyset:
    """The newest version seen."""

    def __init__(self, path: Path, kept: Path | None = None) -> None:
        """``path`` is the operator's file, ``kept`` where newer versions are kept: by default beside it.

        Raises:
            ConfigError: a file cannot be used.
        """
        self._kept = kept if kept is not None else beside(path)
        keyset = load_keyset(path)
        if self._kept.exists() and (newer := load_keyset(self._kept)).version > keyset.version:
            keyset = newer
        self.keyset = keyset
        self._on_topic = 0
        self._last = b""
        self._waiting: dict[int, bytes] = {}
        self.changed: Callable[[Keyset], None] = lambda keyset: None
        """Called with each version that was taken up."""

    def take(self, document: bytes) -> None:
        """One document from the topic, in the topic's order.

        What was in force before may lie there once, in order; any other repetition is a rollback.

        Raises:
            KeysetFault: it does not count, and nothing has changed.
            ConfigError: it is in force, but could not be kept: a restart without the bus would not know it.
        """
        if document == self._last:
            return
        found = verified(document)
        if found.version <= self.keyset.version:
            if found.version <= self._on_topic or not has_known_signer(document, self.keyset):
                raise KeysetFault(
                    f"is version {found.version}; version {self.keyset.version} is known", code="older_version"
                )
            self._note(found.version, document)
            return
        if found.version > self.keyset.version + 1 and has_known_signer(document, self.keyset):
            self._wait(found.version, document)
        self._follow(verified(document, after=self.keyset), document)
        while (following := self._waiting.pop(self.keyset.version + 1, None)) is not None:
            try:
                self._follow(verified(following, after=self.keyset), following)
            except KeysetFault:
                return  # it was reported when it came

    def _wait(self, version: int, document: bytes) -> None:
        if len(self._waiting) < _WAITING_MOST:
            self._waiting[version] = document

    def _note(self, version: int, document: bytes) -> None:
        self._on_topic, self._last = version, document

    def _follow(self, keyset: Keyset, document: bytes) -> None:
        self._note(keyset.version, document)
        try:
            self._keep(keyset, document)
        finally:
            self.keyset = keyset
            self.changed(keyset)

    def _keep(self, keyset: Keyset, document: bytes) -> None:
        with files.locked(self._kept.parent):
            if self._kept.exists() and load_keyset(self._kept).version >= keyset.version:
                return  # another worker of this machine has kept it
            files.replace(self._kept, document, mode=0o644)


def beside(path: Path) -> Path:
    """Where a keyset that came over the bus is kept, unless the settings name another file."""
    return path.with_name("keyset.newest.json")
