"""What passes between the worker and its reader processes, as JSON: a question, and an answer or an error of ours.

Called by ``kept`` and ``reader``. Both sides are one version of one program: nothing here is kept or sent elsewhere.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from workers.domain.errors import (
    CommandRejected,
    LimitExceeded,
    PermanentFailure,
    TransientFailure,
    WorkerError,
)
from workers.domain.targets.file import Enclosure, FileAttribute, FileFacts, FileIdentity, FileKind, Location
from workers.host.evidence.ports import Copy

_ERRORS: Final = {kind.__name__: kind for kind in (CommandRejected, LimitExceeded, PermanentFailure, TransientFailure)}


@dataclass(frozen=True, slots=True)
class Question:
    """Look at a file; with an ``expected`` identity read it too, into the descriptor that comes with the question."""

    where: Location
    deadline_ns: int
    expected: FileIdentity | None = None
    limit: int = 0


def question_bytes(question: Question) -> bytes:
    """For the way there."""
    return _packed(question)


def question(data: bytes) -> Question:
    """Raises ``ValueError``, ``KeyError`` for what is none."""
    found = json.loads(data)
    where, inside, expected = found["where"], found["where"]["inside"], found["expected"]
    return Question(
        Location(
            bytes.fromhex(where["path"]), Enclosure(**inside) if inside is not None else None, where["allow_remote"]
        ),
        found["deadline_ns"],
        FileIdentity(**expected) if expected is not None else None,
        found["limit"],
    )


def answer_bytes(answer: FileFacts | Copy | WorkerError | None) -> bytes:
    """For the way back."""
    if isinstance(answer, WorkerError):
        kind = type(answer).__name__
        return _packed({"error": kind if kind in _ERRORS else "", "message": answer.message, "code": answer.reason})
    return _packed({"found": answer})


def answered(data: bytes) -> Mapping[str, Any] | None:
    """What was found, for ``facts_of`` and ``copy_of``; None where nothing was.

    Raises:
        WorkerError: what the reader raised.
        ValueError: it is cut short.
    """
    said = json.loads(data)
    if "error" in said:
        raise _ERRORS.get(said["error"], PermanentFailure)(said["message"], code=said["code"])
    return said["found"]  # type: ignore[no-any-return]


def facts_of(found: Mapping[str, Any]) -> FileFacts:
    """What ``answered`` said of a file."""
    return FileFacts(
        **{
            **found,
            "kind": FileKind(found["kind"]),
            **{name: FileIdentity(**found[name]) for name in ("identity", "parent", "root")},
            "ancestors": tuple(FileIdentity(**each) for each in found["ancestors"]),
            "attributes": tuple(
                FileAttribute(bytes.fromhex(each["name"]), bytes.fromhex(each["value"])) for each in found["attributes"]
            ),
        }
    )


def copy_of(found: Mapping[str, Any]) -> Copy:
    """What ``answered`` said of a copy."""
    return Copy(found["size"], found["sha256"], facts_of(found["facts"]), found["steady"])


def _packed(value: Any) -> bytes:
    return json.dumps(value, default=_plain).encode()


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(type(value).__name__)
