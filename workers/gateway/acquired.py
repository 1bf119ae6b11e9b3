"""What was acquired (files, logs, snapshots), for those who may download it: found, audited, handed on only while it is
what was sealed.

Called by the routes of both faces; calls the desk, the audit trail and the object store. What the object is called
follows from node and execution, never from what a node reports: a rooted node could name another's. Its digest is the
one in the node's signed result, and the last bytes leave only when the whole has it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from workers.actions.base.gathering import GatheringAction
from workers.domain.errors import PermanentFailure, TransientFailure
from workers.domain.history.execution import Execution
from workers.domain.ids import is_node_id
from workers.domain.log.record import Headers
from workers.domain.targets.custody import object_key
from workers.gateway.intake import Intake
from workers.gateway.principals import Principal
from workers.gateway.refusals import Conflict, NotFound
from workers.store.objects.ports import StoredObject
from workers.system.ports import Telemetry

_CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """An object on its way to somebody."""

    execution_id: str
    name: str
    """What it is called where it is saved."""
    size: int
    sha256: str
    stored: StoredObject
    telemetry: Telemetry

    def chunks(self) -> Iterator[bytes]:
        """The content. The last chunk is held back until the digest is known to be right: whoever got everything has
        what was sealed, and nobody takes something else for whole.

        Raises:
            TransientFailure: the store went away, or what it has is not what was sealed.
        """
        digest, passed, held = hashlib.sha256(), 0, b""
        while chunk := self.stored.read(_CHUNK):
            digest.update(chunk)
            passed += len(chunk)
            if held:
                yield held
            held = chunk
        if (passed, digest.hexdigest()) != (self.size, self.sha256):
            self.telemetry.log("acquired_file_differs", level="error", execution_id=self.execution_id)
            raise TransientFailure("what the store has is not what was acquired", code="object_differs")
        if held:
            yield held

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self.stored.close()


def download(intake: Intake, execution_id: str, *, person: Principal, parent: Headers = ()) -> Download:
    """The file that an execution acquired, opened; that somebody asked for it is in the audit trail first.

    Raises:
        Forbidden: this caller may not read what such actions gather.
        NotFound: there is no such execution, or it acquired nothing, or the object is gone.
        Conflict: what the store has is not what was acquired.
        TransientFailure: the object store or the log is away, or this gateway has no store.
    """
    with intake.telemetry.span("gateway download", parent=parent) as span:
        known = intake.found(execution_id, person=person)
        size, sha256 = _acquired(known)
        if intake.objects is None:
            raise TransientFailure("this gateway has no object store (its settings: storage)", code="no_store")
        key = object_key(known.node_id, known.execution_id)
        intake.trail.asked(
            "downloaded",
            person,
            execution_id=known.execution_id,
            detail={"object_key": key, "sha256": sha256, "size": size},
            trace=span.headers(),
        )
        try:
            stored = intake.objects.open(key)
        except PermanentFailure as error:
            raise TransientFailure(error.message, code=error.reason) from error
        if stored is None:
            raise NotFound("it was acquired, but the object store no longer has it", code="object_gone")
        if stored.size != size:
            stored.close()
            raise Conflict("what the store has is not what was acquired: its size is another", code="object_differs")
        action = intake.catalogue.get(known.action)
        suffix = action.suffix if isinstance(action, GatheringAction) else ""
        return Download(known.execution_id, known.execution_id + suffix, size, sha256, stored, intake.telemetry)


def _acquired(known: Execution) -> tuple[int, str]:
    """Size and digest, as the node signed them."""
    outputs = known.outputs
    size, sha256 = outputs.get("size"), outputs.get("sha256")
    if "object_key" not in outputs or not isinstance(size, int) or not isinstance(sha256, str):
        state = known.outcome or known.stage
        raise NotFound(
            f"execution {known.execution_id} acquired no file: {known.action}, {state}", code="no_acquired_file"
        )
    if not is_node_id(known.node_id):
        raise NotFound(f"execution {known.execution_id} names no node", code="no_acquired_file")
    return size, sha256
