"""What the worker and its reader processes send each other, as JSON: a request, and an answer or a ``WorkerError``.

Called by ``isolated_reader`` and ``reader_process``. Both sides are one version of one program: nothing here is stored
or sent elsewhere.
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
class Request:
    """Examine a file; with an ``expected`` identity read it too, into the descriptor that comes with the request."""

    where: Location
    deadline_ns: int
    expected: FileIdentity | None = None
    limit: int = 0
    pace_ns: int = 0
    """How long reading may stand still; 0 where its deadline is fixed."""


def request_bytes(request: Request) -> bytes:
    """To the reader."""
    return _encoded(request)


def request(data: bytes) -> Request:
    """Raises ``ValueError``, ``KeyError`` for anything else."""
    found = json.loads(data)
    where, inside, expected = found["where"], found["where"]["inside"], found["expected"]
    return Request(
        Location(
            bytes.fromhex(where["path"]), Enclosure(**inside) if inside is not None else None, where["allow_remote"]
        ),
        found["deadline_ns"],
        FileIdentity(**expected) if expected is not None else None,
        found["limit"],
        found["pace_ns"],
    )


def progress_line(done: int) -> bytes:
    """From the reader, before its answer: so many bytes are read."""
    return b"%d\n" % done


def answer_bytes(answer: FileFacts | Copy | WorkerError | None) -> bytes:
    """From the reader."""
    if isinstance(answer, WorkerError):
        kind = type(answer).__name__
        return _encoded({"error": kind if kind in _ERRORS else "", "message": answer.message, "code": answer.reason})
    return _encoded({"found": answer})


def answered(data: bytes) -> Mapping[str, Any] | None:
    """What was found, for ``facts_of`` and ``copy_of``; None where nothing was found.

    Raises:
        WorkerError: what the reader raised.
        ValueError: it was cut off.
    """
    answer = json.loads(data)
    if "error" in answer:
        raise _ERRORS.get(answer["error"], PermanentFailure)(answer["message"], code=answer["code"])
    return answer["found"]  # type: ignore[no-any-return]


def facts_of(found: Mapping[str, Any]) -> FileFacts:
    """From what ``answered`` returned for an examination."""
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
    """From what ``answered`` returned for a copy."""
    return Copy(found["size"], found["sha256"], facts_of(found["facts"]), found["steady"])


def _encoded(value: Any) -> bytes:
    return json.dumps(value, default=_plain).encode()


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(type(value).__name__)
