"""What all actions that gather evidence share: the upload from the spool to the object store, its probe, its reports.

Subclassed by the gathering actions; knows the domain and ports only. An action copies what it gathers onto this node's
spool and describes it in a custody record; the rest is the same for all of them. The copy is sealed, so that its signed
record is durable before the first byte leaves; it becomes one object, whose name follows from node and execution alone,
where nothing has that name; then its custody record is stored beside it. After a crash the same copy goes to the same
name: whatever happens to the source meanwhile, there is one object, and its digest is the one that was sealed.
"""

import contextlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from workers.actions.base import Action, Begun, Done, FieldSpec, Job, Lane, NotDone, Pending, Permission, Probe
from workers.actions.base.upload_progress import ProgressSource
from workers.domain.errors import CommandRejected, LimitExceeded, PermanentFailure, WorkerError
from workers.domain.node_state import COPYING
from workers.domain.outcome import Outcome, PostCondition, Report, Scalar, Values
from workers.domain.pace import Pace
from workers.domain.targets.custody import Custody, custody_key, object_key
from workers.domain.targets.file import FileIdentity
from workers.host.evidence.ports import Spool
from workers.host.ports import Host
from workers.store.objects.ports import ObjectStore, Written

P = TypeVar("P")
C = TypeVar("C")

KEPT_NS: Final = 3_600_000_000_000
"""How long after the command's expiry a sealed copy waits for an unavailable store: evidence is not given up for a
short outage, and a spool is not filled by a long one."""
_KEPT_PER_BYTE_NS: Final = 15_259
"""In addition: at 64 KiB a second an upload that was interrupted is still gone on with."""

OBJECT: Final = (
    FieldSpec("object_key", "string", "Name of the object in the object store"),
    FieldSpec("custody_key", "string", "Name of the signed record of its custody, beside it"),
    FieldSpec("sha256", "string", "SHA-256 of the content, in hex"),
    FieldSpec("size", "integer", "Bytes; holes count"),
    FieldSpec("acquired_at", "integer", "When its last byte had been read, nanoseconds since the epoch"),
)
"""Outputs of every gathering action; the gateway finds the object by these."""


def failpoints_of(action: str) -> tuple[str, ...]:
    """Right after: a0 the copy is durable, a1 it is sealed, a2 the object is in the store, a3 it was compared, a4 its
    custody record is in the store, a5 the copy is deleted."""
    return tuple(f"{action}.a{step}" for step in range(6))


class GatheringAction(Action[P, C]):
    """Gathers one object."""

    permission = Permission.GATHERING
    lane = Lane.GATHERING
    paced = True
    ttl_s = 300
    timeout_s = 60
    success_reason: ClassVar[str] = "acquired"
    """The reason in the code of success."""
    suffix: ClassVar[str] = ""
    """The file name extension of a download, where this action decides the format; never a gathered file's own."""

    @abstractmethod
    def take(self, job: Job[P], claim: C, host: Host, spool: Spool, pace: Pace) -> Custody | Report:
        """Copy what the claim names onto the spool, durably, and return its custody record; or the report of why there
        is nothing to copy. ``pace`` reports how much is copied. Raises as ``execute``."""

    def size_of(self, claim: C) -> int:
        """Bytes that there are to copy; 0 where that is not known before."""
        del claim
        return 0

    @abstractmethod
    def subject(self, claim: C) -> str:
        """What is gathered, as the beginning of a sentence."""

    @abstractmethod
    def custody_outputs(self, claim: C, custody: Custody) -> Values:
        """The outputs beside ``OBJECT``'s."""

    def execute(self, job: Job[P], claim: C, host: Host) -> Report:
        """Copy and seal unless that was done before; then upload, compare, and delete the copy."""
        spool, store = stores(host)
        left_ns = job.deadline_ns - host.clock.now_ns()
        pace = job.pace or Pace(host.clock.now_ns, job.deadline_ns, max(1, left_ns))
        pace.moved()
        run = _Run(self, job, claim, host, spool, store, pace)
        sealed = _sealed(job, spool)
        if sealed is not None and spool.delivered(sealed.execution_id):
            return self.already(claim, sealed)
        try:
            if sealed is not None:
                return run.stored(sealed, resumed=True)
            taken = run.taken()
            return taken if isinstance(taken, Report) else run.sealed_and_stored(taken)
        except (PermanentFailure, LimitExceeded) as error:
            run.forget()
            if error.reason == "timed_out":
                return self.report(Outcome.TIMED_OUT, error.reason, error.message, outputs=self.outputs_of(claim))
            raise

    def probe(self, job: Job[P], claim: C, host: Host) -> Probe:
        """By the sealed copy: while there is one, ``execute`` resumes with it, as soon as the store answers."""
        spool, store = stores(host)
        sealed = _sealed(job, spool)
        if sealed is None:
            return NotDone()
        if spool.delivered(sealed.execution_id):
            return Done(self.done(claim, sealed, compared=False))
        if host.clock.now_ns() > job.command.expires_at_ns + KEPT_NS + sealed.size * _KEPT_PER_BYTE_NS:
            why = "the object store did not accept the copy in all this time; the copy is given up"
            return Done(self.report(Outcome.FAILED, "store_unavailable", why, outputs=self.outputs_of(claim)))
        if store.answers():
            return Begun()
        why = f"{self.subject(claim)} is copied and sealed on this node; the object store does not answer yet"
        return Pending(self.report(Outcome.UNKNOWN, "upload_pending", why, outputs=self.outputs_of(claim)))

    def done(self, claim: C, custody: Custody, *, compared: bool) -> Report:
        """The report of what is in the store."""
        message = f"{self.subject(claim)} ({custody.size} bytes) is in the object store"
        if custody.content_changed:
            message += "; it was being written to, and is kept as it was read"
        if custody.truncated:
            message += "; not all of it was kept: this node's limit was reached"
        return self.report(
            Outcome.COMPLETED,
            self.success_reason,
            message,
            outputs=self._outputs(claim, custody),
            post_condition=_stored_condition(custody, compared=compared),
        )

    def already(self, claim: C, custody: Custody) -> Report:
        """The report of an object that this execution has stored before."""
        return self.report(
            Outcome.NO_ACTION,
            "already_stored",
            "the store has the object of this execution already, and it is this very content",
            outputs=self._outputs(claim, custody),
            post_condition=_stored_condition(custody, compared=True),
        )

    def custody(self, job: Job[P], host: Host, *, size: int, sha256: str, **more: Any) -> Custody:
        """The record of something that was just taken; ``more`` are further fields of it, a file's own among them."""
        command = job.command
        no_file = {"path": b"", "file": FileIdentity(0, 0)} | dict.fromkeys(_OF_FILES, 0)
        return Custody(
            execution_id=command.command_id,
            node_id=command.node_id,
            action=self.name,
            size=size,
            sha256=sha256,
            taken_at_ns=host.clock.now_ns(),
            asked_by=f"{command.actor.kind.value}:{command.actor.name}",
            reason=command.reason,
            event_id=command.causation.event_id,
            **{**no_file, **more},
        )

    def _outputs(self, claim: C, custody: Custody) -> dict[str, Scalar]:
        key = object_key(custody.node_id, custody.execution_id)
        return {
            **self.outputs_of(claim),
            "object_key": key,
            "custody_key": custody_key(key),
            "sha256": custody.sha256,
            "size": custody.size,
            "acquired_at": custody.taken_at_ns,
            **self.custody_outputs(claim, custody),
        }


_OF_FILES: Final = ("mode", "uid", "gid", "links", "mtime_ns", "ctime_ns")


@dataclass(frozen=True, slots=True)
class _Run(Generic[P, C]):
    """One run, with everything it needs."""

    action: GatheringAction[P, C]
    job: Job[P]
    claim: C
    host: Host
    spool: Spool
    store: ObjectStore
    pace: Pace

    def taken(self) -> Custody | Report:
        """Copy it, and report how far that is."""
        execution_id, size = self.job.command.command_id, self.action.size_of(self.claim)

        def report(done: int) -> None:
            self.host.progress.update(execution_id, done=done, size=size, step=COPYING)

        report(0)
        self.pace.report = report
        try:
            return self.action.take(self.job, self.claim, self.host, self.spool, self.pace)
        finally:
            self.pace.report = None
            self.host.progress.finish(execution_id)

    def sealed_and_stored(self, custody: Custody) -> Report:
        """Seal what was just copied, and store it."""
        self._reach(0)
        self.spool.seal(custody)
        self._reach(1)
        return self.stored(custody, resumed=False)

    def stored(self, custody: Custody, *, resumed: bool) -> Report:
        """Store the object first, its custody record second. ``resumed``: the copy may have been sent before."""
        board = self.host.progress
        board.update(custody.execution_id, done=0, size=custody.size)
        try:
            return self._stored(custody, resumed=resumed)
        finally:
            board.finish(custody.execution_id)

    def _stored(self, custody: Custody, *, resumed: bool) -> Report:
        board = self.host.progress
        key, pace = object_key(custody.node_id, custody.execution_id), self.pace
        source = self.spool.object(custody.execution_id)
        try:
            reporting = ProgressSource(source, custody.execution_id, board)
            written = self.store.put(key, reporting, pace=pace)
            board.update(custody.execution_id, done=custody.size, size=custody.size)
            self._reach(2)
            same = self.store.holds(key, source, pace=pace)
        finally:
            source.close()
        self._reach(3)
        if written is Written.THERE and not resumed:
            return self._found_another(custody, same=same)
        if same is False:
            raise PermanentFailure(
                "what the store has under the object's name is not the object", code="object_differs"
            )
        record = self.spool.custody_object(custody.execution_id)
        try:
            self.store.put(custody_key(key), record, pace=pace)
        finally:
            record.close()
        self._reach(4)
        self.spool.release(custody.execution_id)
        self._reach(5)
        return self.action.done(self.claim, custody, compared=same is True)

    def forget(self) -> None:
        """After a permanent failure: remove the copy and the half upload; what remains is left to the janitor."""
        command = self.job.command
        with contextlib.suppress(WorkerError):
            self.spool.discard(command.command_id)
        with contextlib.suppress(WorkerError):
            self.store.give_up(object_key(command.node_id, command.command_id))

    def _found_another(self, custody: Custody, *, same: bool | None) -> Report:
        """An object was there before this copy was ever sent: it is of an earlier run whose copy is lost."""
        if same:
            self.spool.release(custody.execution_id)
            return self.action.already(self.claim, custody)
        raise PermanentFailure(
            "the store has an object of this execution, but the copy that it was made of is lost here, so its "
            "content cannot be verified; nothing was overwritten",
            code="spool_lost",
        )

    def _reach(self, step: int) -> None:
        self.host.failpoints.reach(f"{self.action.name}.a{step}")


def stores(host: Host) -> tuple[Spool, ObjectStore]:
    """This node's spool and its object store.

    Raises:
        CommandRejected: this node has no store (``no_store``).
    """
    if host.spool is None or host.objects is None:
        raise CommandRejected(
            "this node has no object store (its own settings: storage); `douse doctor` checks one", code="no_store"
        )
    return host.spool, host.objects


def _sealed(job: Job[Any], spool: Spool) -> Custody | None:
    """The custody record of a complete copy; a damaged one counts as none, and the copy is made anew."""
    try:
        return spool.custody(job.command.command_id)
    except PermanentFailure as error:
        if error.reason != "custody_damaged":
            raise
        return None


def _stored_condition(custody: Custody, *, compared: bool) -> PostCondition:
    """A node that may not read back has only the store's acknowledgement of bytes that it hashed itself."""
    proof = "as the store has it" if compared else "as sent and acknowledged; this node may not read it back"
    return PostCondition("object_stored", holds=True, detail=f"SHA-256 {custody.sha256}, {proof}")
