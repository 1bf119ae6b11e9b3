"""When a Falco event happened, from the three fields that carry its time.

Called by ``domain.falco.alert``. Pure. ``time`` is what Falco wrote itself, to the nanosecond; ``evt.time`` may have
passed through a 64-bit float (256 ns coarse by now) or belong to a replayed capture, so it only ever refines
``time``.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from workers.domain.event_bounds import is_time_ns

_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):?(\d\d))",
    re.ASCII,
)
_SECOND_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REFINING: Final = ("evt.time.iso8601", "evt.rawtime", "evt.time")


def occurred_at_ns(event: Mapping[str, Any], fields: Mapping[str, Any]) -> int | None:
    """The event's time in nanoseconds since the epoch; None when it has no plausible one.

    A ``time`` cut to whole seconds (or milliseconds) is refined by a field that agrees with it to that digit.
    """
    stated = parsed(event.get("time"))
    others = [found for name in _REFINING if (found := _moment(fields.get(name))) is not None]
    if stated is None:
        return others[0] if others else None
    at_ns, grain_ns = stated
    return next((other for other in others if other // grain_ns == at_ns // grain_ns), at_ns)


def parsed(stamp: object) -> tuple[int, int] | None:
    """An RFC 3339 time in nanoseconds since the epoch, and how coarse its last digit is; None for anything else."""
    found = _RFC3339.fullmatch(stamp) if isinstance(stamp, str) and len(stamp) <= 64 else None
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction, zulu, sign, offset_h, offset_min = found.groups()[6:]
    offset = timedelta() if zulu else timedelta(hours=int(offset_h), minutes=int(offset_min))
    try:
        zone = timezone(-offset if sign == "-" else offset)
        since = datetime(year, month, day, hour, minute, second, tzinfo=zone) - _EPOCH
    except (ValueError, OverflowError):
        return None
    digits = fraction or ""
    at_ns = (since.days * 86_400 + since.seconds) * _SECOND_NS + int(digits.ljust(9, "0"))
    return (at_ns, 10 ** (9 - len(digits))) if is_time_ns(at_ns) else None


def _moment(value: object) -> int | None:
    """A field's time: nanoseconds as a number (or its digits), or an RFC 3339 text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, int):
        return value if is_time_ns(value) else None
    stated = parsed(value)
    return stated[0] if stated else None
