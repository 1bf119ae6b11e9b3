"""Download what was acquired (files, logs, snapshots): find it, audit the download, verify it on the way.

Called by ``http.acquired_file``; calls the intake, the audit trail and the object store. The object's name follows from
node and execution, never from what a node reports: a compromised node could name another node's object. The digest is
the one in the node's signed result, and the last bytes are sent only after the whole content has matched it.
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
from workers.gateway.intake import GatewayIntake
from workers.gateway.principals import Principal
from workers.gateway.refusals import Conflict, NotFound
from workers.store.objects.ports import StoredObject
from workers.system.ports import Telemetry

_CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """An object that is being downloaded."""

    execution_id: str
    name: str
    """The suggested file name."""
    size: int
    sha256: str
    stored: StoredObject
    telemetry: Telemetry

    def chunks(self) -> Iterator[bytes]:
        """The content. The last chunk is held back until the digest is verified: a client that received everything
        has what was sealed, and cannot mistake other content for complete.

        Raises:
            TransientFailure: the store is unavailable, or its object is not what was sealed.
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
            raise TransientFailure("the stored object is not what was acquired", code="object_differs")
        if held:
            yield held

    def close(self) -> None:
        """Close the object. Idempotent."""
        self.stored.close()


def download(intake: GatewayIntake, execution_id: str, *, person: Principal, parent: Headers = ()) -> Download:
    """The file that an execution acquired, opened; the download is audited first.

    Raises:
        Forbidden: this caller may not read what such actions gather.
        NotFound: there is no such execution, or it acquired nothing, or the object is gone.
        Conflict: the stored object is not what was acquired.
        TransientFailure: the object store or the log is unavailable, or this gateway has no store.
    """
    with intake.telemetry.span("gateway download", parent=parent) as span:
        known = intake.found(execution_id, person=person)
        size, sha256 = _acquired(known)
        if intake.objects is None:
            raise TransientFailure("this gateway has no object store (its settings: storage)", code="no_store")
        key = object_key(known.node_id, known.execution_id)
        intake.trail.requested(
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
            raise Conflict("the stored object is not what was acquired: its size differs", code="object_differs")
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
