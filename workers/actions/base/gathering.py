"""What all actions that gather evidence share: the way from the spool to the object store, its probe, and its reports.

Subclassed by the gathering actions; knows core and ports only. An action puts what it gathers on this node's spool and
says what it is; from there on all is one way: sealed, so that what it is, signed, is durable before the first byte
leaves; then one object, whose name follows from node and execution alone, where nothing has that name; then its custody
record beside it. After a crash the same copy goes to the same name: whatever the source does meanwhile, there is one
object, and its digest is the one that was sealed (SAFETY D22 to D24).
"""

import contextlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from workers.actions.base import Action, Begun, Done, FieldSpec, Job, Lane, NotDone, Pending, Permission, Probe
from workers.actions.base.upload_progress import ProgressSource
from workers.domain.errors import CommandRejected, LimitExceeded, PermanentFailure, WorkerError
from workers.domain.outcome import Outcome, PostCondition, Report, Scalar, Values
from workers.domain.targets.custody import Custody, custody_key, object_key
from workers.domain.targets.file import FileIdentity
from workers.host.evidence.ports import Spool
from workers.host.ports import Host
from workers.store.objects.ports import ObjectStore, Written

P = TypeVar("P")
C = TypeVar("C")

KEPT_NS: Final = 3_600_000_000_000
"""How long after the command's expiry a sealed copy waits for a store that is away: evidence is not given up for a
short outage, and a spool is not filled by a long one."""

OBJECT: Final = (
    FieldSpec("object_key", "string", "Name of the object in the object store"),
    FieldSpec("custody_key", "string", "Name of the signed record of its custody, beside it"),
    FieldSpec("sha256", "string", "SHA-256 of the content, in hex"),
    FieldSpec("size", "integer", "Bytes; holes count"),
    FieldSpec("acquired_at", "integer", "When its last byte had been read, nanoseconds since the epoch"),
)
"""What every gathering action says of its object; the gateway finds it by these."""


def failpoints_of(action: str) -> tuple[str, ...]:
    """Right after: a0 the copy is durable, a1 it is sealed, a2 the object is in the store, a3 it was looked at, a4 its
    custody record is in the store, a5 the copy is gone."""
    return tuple(f"{action}.a{step}" for step in range(6))


class GatheringAction(Action[P, C]):
    """Gathers one object."""

    permission = Permission.GATHERING
    lane = Lane.GATHERING
    ttl_s = 300
    timeout_s = 60
    success_reason: ClassVar[str] = "acquired"
    """The reason in the code of success."""
    suffix: ClassVar[str] = ""
    """What a download's name ends with: content that is ours to name, never what a file was called."""

    @abstractmethod
    def take(self, job: Job[P], claim: C, host: Host, spool: Spool) -> Custody | Report:
        """Put what the claim names on the spool, durably, and say what it is; or the report of why there is nothing to
        take. Raises as ``execute``."""

    @abstractmethod
    def subject(self, claim: C) -> str:
        """What is gathered, as the beginning of a sentence."""

    @abstractmethod
    def custody_outputs(self, claim: C, custody: Custody) -> Values:
        """The outputs beside ``OBJECT``'s."""

    def execute(self, job: Job[P], claim: C, host: Host) -> Report:
        """Take and seal unless that was done before; then put, look, and let the copy go."""
        spool, store = stores(host)
        run = _Run(self, job, claim, host, spool, store)
        sealed = _sealed(job, spool)
        if sealed is not None and spool.delivered(sealed.execution_id):
            return self.already(claim, sealed)
        try:
            if sealed is not None:
                return run.stored(sealed, resumed=True)
            taken = self.take(job, claim, host, spool)
            return taken if isinstance(taken, Report) else run.sealed_and_stored(taken)
        except (PermanentFailure, LimitExceeded) as error:
            run.forget()
            if error.reason == "timed_out":
                return self.report(Outcome.TIMED_OUT, error.reason, error.message, outputs=self.outputs_of(claim))
            raise

    def probe(self, job: Job[P], claim: C, host: Host) -> Probe:
        """By the sealed copy: while there is one, ``execute`` goes on with it, as soon as the store answers."""
        spool, store = stores(host)
        sealed = _sealed(job, spool)
        if sealed is None:
            return NotDone()
        if spool.delivered(sealed.execution_id):
            return Done(self.done(claim, sealed, looked=False))
        if host.clock.now_ns() > job.command.expires_at_ns + KEPT_NS:
            why = "the object store did not take the copy in all this time; it is given up"
            return Done(self.report(Outcome.FAILED, "store_unavailable", why, outputs=self.outputs_of(claim)))
        if store.answers():
            return Begun()
        why = f"{self.subject(claim)} is copied and sealed on this node; the object store does not answer yet"
        return Pending(self.report(Outcome.UNKNOWN, "upload_pending", why, outputs=self.outputs_of(claim)))

    def done(self, claim: C, custody: Custody, *, looked: bool) -> Report:
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
            post_condition=_stored_condition(custody, looked=looked),
        )

    def already(self, claim: C, custody: Custody) -> Report:
        """The report of an object that this execution has stored before."""
        return self.report(
            Outcome.NO_ACTION,
            "already_stored",
            "the store has the object of this execution already, and it is this very content",
            outputs=self._outputs(claim, custody),
            post_condition=_stored_condition(custody, looked=True),
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

    def sealed_and_stored(self, custody: Custody) -> Report:
        """What was taken just now: what it is, signed and durable; then the rest of the way."""
        self._reach(0)
        self.spool.seal(custody)
        self._reach(1)
        return self.stored(custody, resumed=False)

    def stored(self, custody: Custody, *, resumed: bool) -> Report:
        """Object first, custody record second. ``resumed``: the copy may have been sent before."""
        board = self.host.progress
        board.update(custody.execution_id, done=0, size=custody.size)
        try:
            return self._stored(custody, resumed=resumed)
        finally:
            board.finish(custody.execution_id)

    def _stored(self, custody: Custody, *, resumed: bool) -> Report:
        board = self.host.progress
        key, deadline_ns = object_key(custody.node_id, custody.execution_id), self.job.deadline_ns
        source = self.spool.object(custody.execution_id)
        try:
            told = ProgressSource(source, custody.execution_id, board)
            written = self.store.put(key, told, deadline_ns=deadline_ns)
            board.update(custody.execution_id, done=custody.size, size=custody.size)
            self._reach(2)
            same = self.store.holds(key, source, deadline_ns=deadline_ns)
        finally:
            source.close()
        self._reach(3)
        if written is Written.THERE and not resumed:
            return self._met_another(custody, same=same)
        if same is False:
            raise PermanentFailure(
                "what the store has under the object's name is not the object", code="object_differs"
            )
        record = self.spool.custody_object(custody.execution_id)
        try:
            self.store.put(custody_key(key), record, deadline_ns=deadline_ns)
        finally:
            record.close()
        self._reach(4)
        self.spool.release(custody.execution_id)
        self._reach(5)
        return self.action.done(self.claim, custody, looked=same is True)

    def forget(self) -> None:
        """After a failure for good: no copy and no half upload stays; what cannot be cleared now is the janitor's."""
        command = self.job.command
        with contextlib.suppress(WorkerError):
            self.spool.discard(command.command_id)
        with contextlib.suppress(WorkerError):
            self.store.give_up(object_key(command.node_id, command.command_id))

    def _met_another(self, custody: Custody, *, same: bool | None) -> Report:
        """An object was there before this copy was ever sent: one of a life that the spool does not remember."""
        if same:
            self.spool.release(custody.execution_id)
            return self.action.already(self.claim, custody)
        raise PermanentFailure(
            "the store has an object of this execution, but the copy that it was made of is lost here, so that nobody "
            "can say what it holds; nothing was overwritten",
            code="spool_lost",
        )

    def _reach(self, step: int) -> None:
        self.host.failpoints.reach(f"{self.action.name}.a{step}")


def stores(host: Host) -> tuple[Spool, ObjectStore]:
    """Where evidence waits, and where it goes.

    Raises:
        CommandRejected: this node has no store (``no_store``).
    """
    if host.spool is None or host.objects is None:
        raise CommandRejected(
            "this node has no object store (its own settings: storage); `douse doctor` checks one", code="no_store"
        )
    return host.spool, host.objects


def _sealed(job: Job[Any], spool: Spool) -> Custody | None:
    """What is known of a complete copy; a record that is not to be trusted is none, and it is taken anew."""
    try:
        return spool.custody(job.command.command_id)
    except PermanentFailure as error:
        if error.reason != "custody_damaged":
            raise
        return None


def _stored_condition(custody: Custody, *, looked: bool) -> PostCondition:
    """A node that may not read back has the store's acknowledgement of bytes that it hashed itself, and says so."""
    proof = "as the store has it" if looked else "as sent and acknowledged; this node may not read it back"
    return PostCondition("object_stored", holds=True, detail=f"SHA-256 {custody.sha256}, {proof}")
