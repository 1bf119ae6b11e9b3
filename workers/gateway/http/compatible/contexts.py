"""The ``context`` of ``GET /actions``: labels, in each of the three spellings that clients use. Pure.

Called by ``actions``: JSON text (``context={"host.id":"…"}``), brackets (``context[host.id]=…``) and plain
(``host.id=…``).
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from workers.gateway.http.compatible import vocabulary
from workers.gateway.refusals import Invalid

_BRACKETS: Final = re.compile(r"context\[([^\[\]]+)\]")


def labels_of(parameters: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """The labels of a query string's parameters; other parameters are ignored.

    Raises:
        Invalid: not labels, too long, or two values for one label.
    """
    labels: dict[str, str] = {}
    for name, value in parameters:
        for label, text in _labels(name, value):
            if len(label) > vocabulary.LONGEST_NAME or len(text) > vocabulary.LONGEST_CONTEXT:
                raise Invalid(f"a label has at most {vocabulary.LONGEST_CONTEXT} characters", field="context")
            if labels.setdefault(label, text) != text:
                raise Invalid(f"context gives {label[:64]} two values", field="context")
    return {label: text for label, text in labels.items() if text}


def _labels(name: str, value: str) -> Iterable[tuple[str, str]]:
    if name == "context":
        return _of_json(value) if value.strip() else ()
    inside = _BRACKETS.fullmatch(name)
    if inside is not None:
        return ((inside[1], value),)
    return ((name, value),) if "." in name else ()


def _of_json(text: str) -> Iterable[tuple[str, str]]:
    wanted = 'context is a JSON object of texts, such as {"host.id": "…"}; or context[host.id]=…'
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid(wanted, field="context") from None
    if not isinstance(found, dict):
        raise Invalid(wanted, field="context")
    for label, value in found.items():
        match value:
            case str():
                yield label, value
            case int() if not isinstance(value, bool):
                yield label, str(value)
            case None:
                continue
            case _:
                raise Invalid(wanted, field="context")
