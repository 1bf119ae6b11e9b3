"""One mapping of a rule file: typed reads, every fault kept with its place, and what nobody asked for is unknown.

Called by ``domain.rules.parsing``. Pure. A read never raises: it keeps the fault and gives a harmless value, so that
all faults of a file are told at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from workers.domain.errors import Problem

DAY_S: Final = 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}
_DURATION: Final = re.compile(r"(\d{1,9})\s*([smhd])")

T = TypeVar("T")


@dataclass(slots=True)
class Part:
    """One mapping of a rule file: typed reads, every fault kept with its place, what nobody read is unknown."""

    place: str
    content: Any
    faults: list[Problem]
    known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Anything but a mapping is a fault and reads as an empty one."""
        if not isinstance(self.content, Mapping):
            self.fault("", f"must be a mapping, not {_kind(self.content)}")
            self.content = {}
        if True in self.content:  # YAML 1.1 reads a bare `on` as the truth value
            self.content = {("on" if key is True else key): value for key, value in self.content.items()}

    def fault(self, key: str, reason: str) -> None:
        """Keep a fault of the value at ``key``; of this mapping itself where it is empty."""
        self.faults.append(Problem(self._at(key), reason))

    def take(self, key: str) -> Any:
        """The raw value, None where there is none."""
        self.known.add(key)
        return self.content.get(key)

    def names(self) -> list[str]:
        """All keys of a mapping whose keys are free."""
        for key in self.content:
            if not isinstance(key, str):
                self.fault(str(key), "must be text; put it in quotes")
        return [key for key in self.content if isinstance(key, str)]

    def text(self, key: str, *, longest: int, required: bool = False) -> str:
        """Text on one line, its white space folded; empty where missing or wrong."""
        value = self.take(key)
        if value is None:
            if required:
                self.fault(key, "is missing")
            return ""
        line = " ".join(value.split()) if isinstance(value, str) else ""
        if not line or len(line) > longest or not line.isprintable():
            self.fault(key, f"must be text of 1 to {longest} printable characters, not {_shown(value)}")
            return ""
        return line

    def texts(self, key: str) -> tuple[str, ...]:
        """A text or a list of texts."""
        value = self.take(key)
        items = value if isinstance(value, list) else [] if value is None else [value]
        if value is not None and (not items or not all(isinstance(item, str) and item for item in items)):
            self.fault(key, f"must be text or a list of texts, not {_shown(value)}")
            return ()
        return tuple(items)

    def truth(self, key: str, *, default: bool) -> bool:
        """A truth value."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            self.fault(key, f"must be true or false, not {_shown(value)}")
        return value if isinstance(value, bool) else default

    def one_of(self, key: str, choices: tuple[T, ...], *, default: T) -> T:
        """One of a closed set."""
        value = self.take(key)
        if value is not None and value not in choices:
            self.fault(key, f"must be one of {', '.join(str(choice) for choice in choices)}, not {_shown(value)}")
        return next((choice for choice in choices if choice == value), default)

    def seconds(self, key: str, *, default: int, most: int) -> int:
        """Seconds, as a number or like ``90s``, ``5m``, ``2h``, ``1d``."""
        value = self.take(key)
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        number = int(found[1]) * _UNITS[found[2]] if found else value
        if number is None:
            return default
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
            self.fault(key, f"must be seconds or like 90s, 5m, 2h, 1d, at most {most} s, not {_shown(value)}")
            return default
        return number

    def part(self, key: str, *, required: bool = True) -> Part | None:
        """A mapping inside this one."""
        value = self.take(key)
        if value is None:
            if required:
                self.fault(key, "is missing")
            return None
        return Part(self._at(key), value, self.faults)

    def parts(self, key: str, *, least: int = 1) -> Sequence[Part]:
        """A list of mappings inside this one."""
        value = self.take(key)
        if not isinstance(value, list) or len(value) < least:
            self.fault(key, "must be a list with at least one entry" if least else "must be a list")
            return ()
        return [Part(f"{self._at(key)}[{number}]", item, self.faults) for number, item in enumerate(value)]

    def end(self) -> None:
        """Whatever nobody asked for is unknown."""
        for key in self.content:
            if key not in self.known:
                self.fault(str(key), f"unknown key; known here: {', '.join(sorted(self.known))}")

    def _at(self, key: str) -> str:
        joint = "" if self.place.endswith(": ") or not key else "."
        return f"{self.place}{joint}{key}".removesuffix(": ")


def _kind(value: object) -> str:
    return "empty" if value is None else type(value).__name__


def _shown(value: object) -> str:
    return repr(value)[:80]
