"""file_acquire: a file's content, as it is now, into the object store, with the proof of where it came from.

Run by the node worker in the gathering lane. The content is first copied to this node's spool; what it is, signed, is
durable before the first byte leaves; then one object, whose name follows from node and execution alone, is put where
nothing has that name. After a crash the same copy goes to the same name: whatever the file does meanwhile, there is
one object, and its digest is the one that was sealed (SAFETY D22 to D24). Must never read what is not a regular file,
nor what is secret without two people's word.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from workers.action import Action, Begun, Done, FieldSpec, Job, Lane, NotDone, Pending, Permission, Probe, parameter
from workers.action.enclosing import CONTAINER, MOUNTS, enclosed, enclosure_of
from workers.core.custody import Custody, custody_key, object_key
from workers.core.errors import CommandRejected, LimitExceeded, PermanentFailure, WorkerError
from workers.core.file import FileFacts, FileIdentity, FileKind, Location, shown
from workers.core.outcome import NOTHING, Outcome, PostCondition, Report, Values
from workers.core.protected_files import is_remote
from workers.core.secret_files import secrecy, untouchable
from workers.core.target import FileTarget, ReviewedFile
from workers.ports import Host, ObjectStore, Spool, Written

FAILPOINTS: Final = tuple(f"file_acquire.a{step}" for step in range(6))
"""Right after: a0 the copy is durable, a1 it is sealed, a2 the object is in the store, a3 it was looked at, a4 its
custody record is in the store, a5 the copy is gone."""

KEPT_NS: Final = 3_600_000_000_000
"""How long after the command's expiry a sealed copy waits for a store that is away: evidence is not given up for a
short outage, and a spool is not filled by a long one."""

_TWO: Final = "two"


@dataclass(frozen=True, slots=True)
class AcquireParameters:
    """What may be chosen."""

    allow_remote: bool = parameter("Also on network and FUSE filesystems, which may never answer", default=False)


class FileAcquire(Action[AcquireParameters]):
    """Acquires one file."""

    name = "file_acquire"
    summary = "Copy a file to the object store, with a signed record of where it came from"
    drawbacks = (
        "Its content leaves the machine: whoever may download acquired files can read it.",
        "Of a file that is being written to, what could be read is kept.",
        "It costs disk, network and time; nothing is contained by it.",
    )
    permission = Permission.GATHERING
    lane = Lane.GATHERING
    target = FileTarget
    parameters = AcquireParameters
    outputs = (
        FieldSpec("path", "string", "Where the content was read"),
        FieldSpec("object_key", "string", "Name of the object in the object store"),
        FieldSpec("custody_key", "string", "Name of the signed record of its custody, beside it"),
        FieldSpec("sha256", "string", "SHA-256 of the content, in hex"),
        FieldSpec("size", "integer", "Bytes; holes count"),
        FieldSpec("mode", "integer", "Permission bits"),
        FieldSpec("user_id", "integer", "Whose it is"),
        FieldSpec("group_id", "integer", "Its group"),
        FieldSpec("modified_at", "integer", "When it was last written to, nanoseconds since the epoch"),
        FieldSpec("links", "integer", "Hard links it has"),
        FieldSpec("acquired_at", "integer", "When its last byte had been read, nanoseconds since the epoch"),
        FieldSpec("identity", "string", "By what it was recognised: reviewed or path_at_intake"),
        FieldSpec("content_changed", "boolean", "It was written to between intake and copy; it was taken as found"),
        *CONTAINER,
    )
    privileges = ("DAC_READ_SEARCH", "FOWNER", "SYS_PTRACE")
    mounts = MOUNTS
    ttl_s = 300
    timeout_s = 60
    example: ClassVar[Mapping[str, Any]] = {
        "target": FileTarget(path=b"/tmp/xmrig", observed_at_ns=1_783_198_004_180_672_852),
        "parameters": {"allow_remote": True},
    }

    def admit(self, job: Job[AcquireParameters], host: Host) -> None:
        """Refuse what needs no look at the file; ``bind`` looks once, and refuses by identity and secrecy."""
        _meant(job, host)

    def bind(self, job: Job[AcquireParameters], host: Host) -> Values:
        """The file that has the path now."""
        target, spool, _ = _meant(job, host)
        container = enclosed(target, host, spare_protected=False)
        facts = spool.examine(_location(job, target, container))
        if facts is None:
            raise CommandRejected(f"nothing is called {shown(target.path)}", code="not_found")
        _refuse(facts, target.path, job, spool)
        if target.reviewed is not None and (changed := _differs(facts, target.reviewed)):
            raise CommandRejected(
                f"its {changed} is not what was reviewed; look at it again and ask again", code="target_changed"
            )
        return {
            "path": shown(target.path),
            "device": _signed(facts.identity.device),
            "inode": _signed(facts.identity.inode),
            "size": facts.size,
            "modified_at": facts.mtime_ns,
            "changed_at": facts.ctime_ns,
            "identity": "path_at_intake" if target.reviewed is None else "reviewed",
            **container,
        }

    def execute(self, job: Job[AcquireParameters], claim: Values, host: Host) -> Report:
        """Copy and seal unless that was done before; then put, look, and let the copy go."""
        target, spool, store = _meant(job, host)
        run = _Run(self, job, claim, host, target, spool, store)
        sealed = _sealed(job, spool)
        if sealed is not None and spool.delivered(sealed.execution_id):
            return self.already(claim, sealed)
        try:
            return run.stored(sealed or run.seal(), resumed=sealed is not None)
        except (PermanentFailure, LimitExceeded) as error:
            run.forget()
            if error.reason == "timed_out":
                return self.report(Outcome.TIMED_OUT, error.reason, error.message, outputs=_known(claim))
            raise

    def probe(self, job: Job[AcquireParameters], claim: Values, host: Host) -> Probe:
        """By the sealed copy: while there is one, ``execute`` goes on with it, as soon as the store answers."""
        _, spool, store = _meant(job, host)
        sealed = _sealed(job, spool)
        if sealed is None:
            return NotDone()
        if spool.delivered(sealed.execution_id):
            return Done(self.done(claim, sealed, looked=False))
        if host.clock.now_ns() > job.command.expires_at_ns + KEPT_NS:
            why = "the object store did not take the copy in all this time; it is given up"
            return Done(self.report(Outcome.FAILED, "store_unavailable", why, outputs=_known(claim)))
        if store.answers():
            return Begun()
        why = "the file is copied and sealed on this node; the object store does not answer yet"
        return Pending(self.report(Outcome.UNKNOWN, "upload_pending", why, outputs=_known(claim)))

    def rehearse(self, job: Job[AcquireParameters], claim: Values, host: Host) -> Report:
        """What would be copied."""
        message = f"would copy {claim['path']} ({claim['size']} bytes) to the object store; nothing was read"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=_known(claim))

    def done(self, claim: Values, custody: Custody, *, looked: bool) -> Report:
        """The report of a file that is in the store."""
        message = f"{claim['path']} ({custody.size} bytes) is in the object store"
        if custody.content_changed:
            message += "; it was being written to, and is kept as it was read"
        return self.report(
            Outcome.COMPLETED,
            "acquired",
            message,
            outputs=_outputs(claim, custody),
            post_condition=_stored_condition(custody, looked=looked),
        )

    def already(self, claim: Values, custody: Custody) -> Report:
        """The report of an object that this execution has stored before."""
        return self.report(
            Outcome.NO_ACTION,
            "already_stored",
            "the store has the object of this execution already, and it is this very content",
            outputs=_outputs(claim, custody),
            post_condition=_stored_condition(custody, looked=True),
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, with everything it needs in hand."""

    action: FileAcquire
    job: Job[AcquireParameters]
    claim: Values
    host: Host
    target: FileTarget
    spool: Spool
    store: ObjectStore

    def seal(self) -> Custody:
        """The copy, durable, and what it is, signed and durable."""
        command, claim, reviewed = self.job.command, self.claim, self.target.reviewed
        self.spool.make_room(int(claim["size"]))
        expected = FileIdentity(_unsigned(claim["device"]), _unsigned(claim["inode"]))
        where = _location(self.job, self.target, claim)
        copy = self.spool.copy(command.command_id, where, expected, deadline_ns=self.job.deadline_ns)
        if copy is None:
            raise PermanentFailure("another file, or none, has its name now; nothing was taken", code="target_changed")
        if reviewed is not None and (copy.sha256, copy.size) != (reviewed.sha256, reviewed.size):
            raise PermanentFailure("its content is not what was reviewed", code="target_changed")
        self._reach(0)
        facts = copy.facts
        as_claimed = (claim["size"], claim["modified_at"], claim["changed_at"])
        custody = Custody(
            execution_id=command.command_id,
            node_id=command.node_id,
            action=self.action.name,
            path=self.target.path,
            file=facts.identity,
            size=copy.size,
            sha256=copy.sha256,
            mode=facts.mode,
            uid=facts.uid,
            gid=facts.gid,
            links=facts.links,
            mtime_ns=facts.mtime_ns,
            ctime_ns=facts.ctime_ns,
            taken_at_ns=self.host.clock.now_ns(),
            asked_by=f"{command.actor.kind.value}:{command.actor.name}",
            reason=command.reason,
            event_id=command.causation.event_id,
            content_changed=not copy.steady or as_claimed != (facts.size, facts.mtime_ns, facts.ctime_ns),
            container_id=str(claim.get("container_id", "")),
            run_started_at_ns=int(claim.get("container_started_at", 0)),
            root=facts.root,
        )
        self.spool.seal(custody)
        self._reach(1)
        return custody

    def stored(self, custody: Custody, *, resumed: bool) -> Report:
        """Object first, custody record second. ``resumed``: the copy may have been sent before."""
        key, deadline_ns = object_key(custody.node_id, custody.execution_id), self.job.deadline_ns
        source = self.spool.object(custody.execution_id)
        try:
            written = self.store.put(key, source, deadline_ns=deadline_ns)
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
        self.host.failpoints.reach(f"file_acquire.a{step}")


def _sealed(job: Job[AcquireParameters], spool: Spool) -> Custody | None:
    """What is known of a complete copy; a record that is not to be trusted is none, and the file is copied anew."""
    try:
        return spool.custody(job.command.command_id)
    except PermanentFailure as error:
        if error.reason != "custody_damaged":
            raise
        return None


def _meant(job: Job[AcquireParameters], host: Host) -> tuple[FileTarget, Spool, ObjectStore]:
    target = job.target
    if not isinstance(target, FileTarget):
        raise CommandRejected("file_acquire needs a file as its target", code="invalid_target")
    if host.spool is None or host.objects is None:
        raise CommandRejected(
            "this node has no object store (its own settings: storage); `douse doctor` checks one", code="no_store"
        )
    return target, host.spool, host.objects


def _location(job: Job[AcquireParameters], target: FileTarget, claim: Values) -> Location:
    return Location(target.path, enclosure_of(claim), job.parameters.allow_remote)


def _refuse(facts: FileFacts, path: bytes, job: Job[AcquireParameters], spool: Spool) -> None:
    """What must not or cannot be read. Nothing was opened."""
    reason = untouchable(facts, spool.own_places())
    if reason is not None:
        raise CommandRejected(f"nobody may read the file through this node: {reason}", code="protected_target")
    if facts.kind is not FileKind.REGULAR:
        raise CommandRejected(f"it is a {facts.kind}; only regular files are taken", code="not_regular")
    if is_remote(facts.filesystem) and not job.parameters.allow_remote:
        raise CommandRejected(
            f"it is on {facts.filesystem}, which may never answer; allow_remote takes it all the same",
            code="remote_filesystem",
        )
    if facts.size > spool.largest:
        raise CommandRejected(
            f"it has {facts.size} bytes; this node takes at most {spool.largest} (file_acquire.max_file_size_mb)",
            code="too_large",
        )
    secret = secrecy(facts, path, spool.secret_places())
    if secret is not None and job.command.approval_class != _TWO:
        raise CommandRejected(
            f"the file is secret: {secret}; taking it needs two people's signatures, which this version cannot verify "
            "yet",
            code="approval_missing",
        )


def _differs(facts: FileFacts, reviewed: ReviewedFile) -> str:
    """The first thing that is not as it was reviewed; empty when all is. The content is compared when it is read."""
    pairs: tuple[tuple[str, int, int], ...] = (
        ("device", facts.identity.device, reviewed.device),
        ("inode", facts.identity.inode, reviewed.inode),
        ("size", facts.size, reviewed.size),
        ("modification time", facts.mtime_ns, reviewed.mtime_ns),
        ("change time", facts.ctime_ns, reviewed.ctime_ns),
    )
    return next((name for name, now, then in pairs if now != then), "")


def _outputs(claim: Values, custody: Custody) -> Values:
    key = object_key(custody.node_id, custody.execution_id)
    return {
        "path": claim["path"],
        "object_key": key,
        "custody_key": custody_key(key),
        "sha256": custody.sha256,
        "size": custody.size,
        "mode": custody.mode,
        "user_id": custody.uid,
        "group_id": custody.gid,
        "modified_at": custody.mtime_ns,
        "links": custody.links,
        "acquired_at": custody.taken_at_ns,
        "identity": claim["identity"],
        "content_changed": custody.content_changed,
        "container_id": custody.container_id,
        "container_started_at": custody.run_started_at_ns,
    }


def _stored_condition(custody: Custody, *, looked: bool) -> PostCondition:
    """A node that may not read back has the store's acknowledgement of bytes that it hashed itself, and says so."""
    proof = "read back" if looked else "as sent and acknowledged; this node may not read it back"
    return PostCondition("object_stored", holds=True, detail=f"SHA-256 {custody.sha256}, {proof}")


def _known(claim: Values) -> Values:
    """What the catalogue promises, out of the claim."""
    promised = {spec.name for spec in FileAcquire.outputs}
    return {name: value for name, value in claim.items() if name in promised} or NOTHING


def _signed(number: int) -> int:
    """A 64-bit number without a sign as the journal holds it: two's complement."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _unsigned(number: str | int | bool) -> int:
    return int(number) % (1 << 64)
