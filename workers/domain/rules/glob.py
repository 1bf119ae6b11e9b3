"""Shell-like patterns (``*`` and ``?``) that no hostile text can make slow.

Called by ``domain.rules.rule``. Pure. The parts between stars are searched one after the other, never backtracking
over an earlier star, so the time is at most pattern length times text length: event content is untrusted.
"""

import re
from dataclasses import dataclass, field

_WILD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern: ``*`` is any run of characters, ``?`` any one; everything else is itself, case included."""

    pattern: str
    _parts: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Take the pattern apart once."""
        parts = tuple(
            re.compile("".join("." if char == "?" else re.escape(char) for char in part), re.DOTALL)
            for part in self.pattern.split("*")
        )
        object.__setattr__(self, "_parts", parts)

    @property
    def is_literal(self) -> bool:
        """Whether it matches exactly one text: itself."""
        return _WILD.search(self.pattern) is None

    def matches(self, text: str) -> bool:
        """Whether the whole of ``text`` fits."""
        first, *rest = self._parts
        if not rest:
            return first.fullmatch(text) is not None
        begun = first.match(text)
        if begun is None:
            return False
        at = begun.end()
        for part in rest[:-1]:
            found = part.search(text, at)
            if found is None:
                return False
            at = found.end()
        last_length = len(self.pattern) - self.pattern.rindex("*") - 1
        return len(text) - last_length >= at and rest[-1].fullmatch(text, len(text) - last_length) is not None
