"""Values, reports and headers as JSON text for a column, and strictly back.

Pure. Called by ``store.journal`` and ``store.sqlite.store``. Whatever is not exactly what the other direction
writes is refused: a damaged column never becomes a claim or an outcome.
"""

import base64
import binascii
import json
from dataclasses import asdict
from typing import Any, Final

from workers.domain.errors import PermanentFailure
from workers.domain.log.record import Headers
from workers.domain.outcome import Outcome, PostCondition, Report, Values

_WRITE: Final = json.JSONEncoder(separators=(",", ":")).encode
"""One encoder for all: making one each time costs more than encoding does."""


def values_to(values: Values) -> str:
    """Text of flat values; their three types survive."""
    return _WRITE(dict(values))


def values_from(text: str) -> Values:
    """Values of ``values_to``'s text.

    Raises:
        PermanentFailure: ``journal_io``.
    """
    return _values(_parsed(text))


def report_to(report: Report | None) -> str:
    """Text of a report; empty for none."""
    if report is None:
        return ""
    return _WRITE({**asdict(_plain(report)), "outputs": dict(report.outputs)})


def report_from(text: str) -> Report | None:
    """Report of ``report_to``'s text.

    Raises:
        PermanentFailure: ``journal_io``.
    """
    if not text:
        return None
    match _parsed(text):
        case {
            "outcome": str(outcome),
            "code": str(code),
            "message": str(message),
            "post_condition": post_condition,
            "outputs": outputs,
            "effect_holds": bool(effect_holds),
            "cause": str(cause),
        } if outcome in Outcome.__members__:
            checked = _post_condition(post_condition)
            return Report(Outcome(outcome), code, message, checked, _values(outputs), effect_holds, cause)
    raise _damaged("a report")


def headers_to(headers: Headers) -> str:
    """Text of headers, order and repetition kept."""
    return _WRITE([[name, base64.b64encode(value).decode()] for name, value in headers])


def headers_from(text: str) -> Headers:
    """Headers of ``headers_to``'s text.

    Raises:
        PermanentFailure: ``journal_io``.
    """
    match _parsed(text):
        case [*pairs]:
            return tuple(_header(pair) for pair in pairs)
    raise _damaged("headers")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged("JSON") from None


def _plain(report: Report) -> Report:
    """The report without its outputs: they may be a read-only mapping, which ``asdict`` cannot copy."""
    return Report(
        report.outcome, report.code, report.message, report.post_condition, {}, report.effect_holds, report.cause
    )


def _values(found: object) -> Values:
    match found:
        case dict() if all(type(value) in (str, int, bool) for value in found.values()):
            return found
    raise _damaged("values")


def _post_condition(found: object) -> PostCondition | None:
    match found:
        case None:
            return None
        case {"name": str(name), "holds": bool(holds), "detail": str(detail)}:
            return PostCondition(name, holds, detail)
    raise _damaged("a post-condition")


def _header(found: object) -> tuple[str, bytes]:
    match found:
        case [str(name), str(value)]:
            try:
                return name, base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise _damaged("a header") from None
    raise _damaged("a header")


def _damaged(what: str) -> PermanentFailure:
    return PermanentFailure(f"a stored column does not hold {what}: the file is damaged", code="journal_io")
