"""Times as people and programs write them: RFC 3339 with nanoseconds out; that, numbers and ages in.

Called by the views and by ``parameters``. Nanoseconds travel as text or as whole numbers, never as a
float: a double has been 256 ns coarse since 2004.
"""

import re
from datetime import UTC, datetime
from typing import Final

from workers.domain.event_bounds import is_time_ns
from workers.domain.falco.time import parsed
from workers.gateway.refusals import Invalid

_SECOND_NS: Final = 1_000_000_000
_AGE: Final = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LAST_NS: Final = 253_402_300_799 * _SECOND_NS
"""The end of the year 9999, beyond which RFC 3339 has no form."""


def shown(at_ns: int) -> str | None:
    """A moment in UTC with nine digits; None if it was not reached (0) or cannot be written."""
    if not 0 < at_ns <= _LAST_NS:
        return None
    seconds, rest = divmod(at_ns, _SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def moment(text: str, *, field: str) -> int:
    """Nanoseconds since the epoch out of RFC 3339 or digits; 0 for empty text.

    Raises:
        Invalid: neither.
    """
    if not text:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= 19 and is_time_ns(int(text)):
        return int(text)
    stated = parsed(text)
    if stated is None:
        wanted = "an RFC 3339 time with a zone (2026-07-04T20:46:44Z) or nanoseconds since the epoch"
        raise Invalid(f"{field} must be {wanted}, not {text[:64]!r}", field=field)
    return stated[0]


def since_ns(text: str, *, now_ns: int, field: str = "since") -> int:
    """A moment, or an age before now: ``90s``, ``30m``, ``24h``, ``7d``, ``2w``.

    Raises:
        Invalid: neither.
    """
    age = _AGE.fullmatch(text)
    if age is None:
        return moment(text, field=field)
    return max(1, now_ns - int(age[1]) * _UNITS[age[2]] * _SECOND_NS)
