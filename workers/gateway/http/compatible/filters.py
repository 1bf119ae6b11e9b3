"""The list's ``filter``: ``name = value`` terms, joined by ``and``. Pure.

Called by ``executions``. A term that is not understood is refused, never ignored.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from workers.actions.base import AnyAction
from workers.domain.history.queries import ExecutionQuery
from workers.gateway.http.compatible import vocabulary
from workers.gateway.http.compatible.vocabulary import Status
from workers.gateway.refusals import Invalid

_AND: Final = re.compile(r"\s+and\s+", re.IGNORECASE)
_TERM: Final = re.compile(r"""([A-Za-z.]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=]+))""")

_Narrow = Callable[[ExecutionQuery, str], ExecutionQuery]


def narrowed(query: ExecutionQuery, text: str, catalogue: Mapping[str, AnyAction]) -> ExecutionQuery:
    """The query, narrowed by a filter; unchanged if the filter is empty.

    Raises:
        Invalid: a term cannot be read, or a name or value is not known.
    """
    used: set[str] = set()
    for term in _AND.split(text.strip()) if text.strip() else ():
        parts = _TERM.fullmatch(term)
        if parts is None or parts[1] not in _NAMES or parts[1] in used:
            known = ", ".join(_NAMES)
            raise Invalid(f'filter is name = "value" and …, each name once, of {known}', field="filter")
        used.add(parts[1])
        value = next((part for part in parts.groups()[1:] if part is not None), "")
        if parts[1] == "actionType" and value.lower() not in catalogue:
            raise Invalid(f"filter: there is no action {value[:64]!r}", field="filter")
        if value:
            query = _NAMES[parts[1]](query, value)
    return query


def _status(query: ExecutionQuery, value: str) -> ExecutionQuery:
    if value.upper() not in Status.__members__:
        raise Invalid(f"filter: status is one of {', '.join(Status)}", field="filter")
    stages, outcomes = vocabulary.stages_and_outcomes_of(Status(value.upper()))
    return replace(query, stages=stages, outcomes=outcomes)


_NAMES: Final[Mapping[str, _Narrow]] = {
    "actionType": lambda query, value: replace(query, action=value.lower()),
    "status": _status,
    "callerId": lambda query, value: replace(query, caller_id=value),
    vocabulary.HOST: lambda query, value: replace(query, host=value),
    vocabulary.CONTAINER: lambda query, value: replace(query, container=value),
    "actionExecutionIdBeingUndone": lambda query, value: replace(query, undo_of=value),
}
