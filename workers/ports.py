"""Every seam of Douse, as a Protocol: what the workers need of the world, and nothing about who provides it.

Implemented in ``workers.adapters`` and in ``tests/fakes``; wired in ``workers.bootstrap``. Each method says whether it
blocks, whether doing it twice is safe, and what it raises. Unless it says otherwise a method does not raise.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar

from workers.core.audit import AuditRecord, ChainHead
from workers.core.container import ContainerFacts, ContainerRef, RestartPolicy, Runtime
from workers.core.custody import Custody
from workers.core.envelope import PayloadType
from workers.core.event import RuntimeEvent
from workers.core.file import Enclosure, Extent, FileFacts, FileIdentity, Holders, Location
from workers.core.halting import ThreadFacts
from workers.core.history import Execution, FoldedStep
from workers.core.ids import EventId, ExecutionId, Incarnation, KeyId
from workers.core.journal_entry import EntryState, JournalEntry
from workers.core.keyset import Signatory
from workers.core.manifest import Manifest
from workers.core.network import Barrier, Isolation, Lifeline, Lifelines
from workers.core.node_state import NodeState
from workers.core.outcome import Values
from workers.core.process import ProcessFacts, ProcessIdentity
from workers.core.process_snapshot import ProcessSnapshot
from workers.core.protected_files import ProtectedPlaces
from workers.core.queries import (
    EventQuery,
    ExecutionQuery,
    Page,
    StoredAudit,
    StoredEvent,
    StoredNode,
    StoreHealth,
)
from workers.core.rebuilding import Carried, Reach
from workers.core.record import Delivery, Headers, LogPosition, OutRecord, Record, Start, TopicPartition
from workers.core.result import ActionResult
from workers.core.retention import Cutoffs, Forgotten
from workers.core.sequence import Ranges

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# --- time, chance, saying what happens -------------------------------------------------------------------------------


class Clock(Protocol):
    """Time. Deadlines never use it alone: see the journal's floor."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch. Does not block."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back, for durations. Does not block."""

    def sleep(self, seconds: float) -> None:
        """Blocks. Only loops and the retry doorway call it."""


class Chance(Protocol):
    """Randomness."""

    def bytes(self, count: int) -> bytes:
        """``count`` unpredictable bytes. Does not block."""


class Span(Protocol):
    """One traced piece of work."""

    def headers(self) -> Headers:
        """The trace context to put on records this work writes; empty when tracing is off."""

    def note(self, name: str, value: str | int | bool) -> None:
        """Add an attribute from the allow-list; anything else is dropped."""


class Telemetry(Protocol):
    """Traces, metrics and log lines. Never raises, never blocks on the network."""

    def span(self, name: str, *, parent: Headers = (), attributes: Values = ...) -> AbstractContextManager[Span]:
        """A span around a block; an exception passing through marks it failed."""

    def count(self, metric: str, by: int = 1, *, labels: Mapping[str, str] = ...) -> None:
        """Add to a counter named in the metric catalogue."""

    def observe(self, metric: str, seconds: float, *, labels: Mapping[str, str] = ...) -> None:
        """Record a duration in a histogram named in the metric catalogue."""

    def log(self, event: str, *, level: str = "info", **fields: object) -> None:
        """One structured line; ``level`` is debug, info, warning or error. Never file contents, never secrets."""


class Failpoints(Protocol):
    """Named places where a test may end the process or raise; a no-op in production."""

    def reach(self, name: str) -> None:
        """Pass the place ``name``. May raise or never return when a test armed it."""


# --- bytes and signatures --------------------------------------------------------------------------------------------


class Codec(Protocol):
    """Records to bytes and back: Avro single-object encoding."""

    def encode(self, record: object) -> bytes:
        """Bytes that name their own schema. Raises ``TypeError`` for a class that has none."""

    def decode(self, data: bytes, as_: type[T]) -> T:
        """Raises ``MalformedMessage`` (``undecodable``, ``unknown_schema``, ``wrong_record``, ``oversize``)."""


class EventReader(Protocol):
    """Detectors' records to events: Falco's JSON and Avro, told apart by the topic."""

    def read(self, record: Record) -> RuntimeEvent:
        """The event, bounded and normalised; the same bytes always give the same event. Does not block.

        Raises ``MalformedMessage``: ``no_value``, ``undecodable``, ``oversize``, ``not_an_object``, ``no_rule``,
        ``no_time``, or what ``Codec.decode`` raises.
        """


@dataclass(frozen=True, slots=True)
class Sealed:
    """A signed record: ``value`` is what travels, ``payload`` the exact bytes inside that were signed."""

    value: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Opened(Generic[T]):
    """A verified record."""

    record: T
    payload: bytes
    sha256: str
    """Hex digest of ``payload``."""
    signatory: Signatory


class Sealer(Protocol):
    """Signs with this worker's one key."""

    @property
    def key_id(self) -> KeyId:
        """The key it signs with."""

    def seal(self, kind: PayloadType, record: object) -> Sealed:
        """Encode, sign, wrap. Does not block."""


class Opener(Protocol):
    """Verifies, and only then decodes."""

    def open(self, value: bytes, kind: PayloadType, as_: type[T]) -> Opened[T]:
        """The record inside, its signature checked over its exact bytes before they are decoded.

        Raises ``MalformedMessage``: ``oversize``, ``not_an_envelope``, ``wrong_type``, ``keyset_expired``,
        ``unknown_key``, ``revoked_key``, ``bad_signature``, and what ``Codec.decode`` raises. Whether that signatory
        may say this is the caller's question.
        """


# --- the log ---------------------------------------------------------------------------------------------------------


class LogReader(Protocol):
    """Reads partitions it was told to read; offsets belong to the caller, nothing is committed."""

    def partitions(self, topic: str) -> tuple[LogPosition, ...]:
        """The topic's partitions and its log id. Blocks up to 10 s. Raises ``TransientFailure``."""

    def assign(self, starts: Mapping[LogPosition, Start]) -> None:
        """Read exactly these from now on. Blocks briefly. Raises ``TransientFailure``."""

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        """What arrived, in offset order per partition; waits up to ``timeout_s`` for the first. A ``Gap`` says what
        can no longer be read. Raises ``TransientFailure`` when the broker is away; call again."""

    def close(self) -> None:
        """Idempotent."""


class GroupReader(Protocol):
    """Reads as one of a consumer group; the group keeps the offsets."""

    def subscribe(self, topics: Sequence[str], *, fresh: Start) -> None:
        """Join; ``fresh`` is where a partition without a committed offset starts."""

    def poll(self, timeout_s: float, *, limit: int = 500) -> Sequence[Delivery]:
        """As ``LogReader.poll``. Raises ``PermanentFailure`` (``member_fenced``) when somebody else keeps joining
        under this member's own name."""

    def commit(self) -> None:
        """Everything polled so far is done with. Blocks. Raises ``TransientFailure``; calling again is safe."""

    def close(self) -> None:
        """Leave the group. Idempotent."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The fate of one sent record: acknowledged by the log, or not (it may still be there).

    ``error`` is ``oversize`` or ``invalid_record`` where the log will never take it; anything else may pass.
    """

    token: int
    error: str = ""
    position: LogPosition | None = None
    offset: int = -1

    @property
    def ok(self) -> bool:
        """Whether the log has it."""
        return not self.error


class LogWriter(Protocol):
    """Appends records: idempotent producer, ``acks=all``, no transactions."""

    def send(self, record: OutRecord, *, token: int) -> None:
        """Queue it; its ``Ack`` with ``token`` comes out of ``acks``. Does not block.

        Raises ``TransientFailure`` when the local queue is full, ``MalformedMessage`` (``oversize``) when it can
        never be sent.
        """

    def acks(self, timeout_s: float = 0.0) -> Sequence[Ack]:
        """Acknowledgements and failures since the last call; waits up to ``timeout_s`` for the first."""

    def flush(self, timeout_s: float) -> int:
        """Wait until everything queued has its ack; how many have none yet."""

    def close(self) -> None:
        """Idempotent. Does not wait: flush first."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A record waiting for Kafka's acknowledgement."""

    row_id: int
    record: OutRecord


class Outbox(Protocol):
    """Records that are durable here before they travel."""

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        """Waiting records with ``row_id`` above ``after``, in order."""

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        """Kafka has them. Idempotent."""


class Outgoing(Outbox, Protocol):
    """An outbox and an audit chain in memory, for workers that keep nothing: lost with the process."""

    def begin(self) -> "AbstractContextManager[Chained]":
        """All of what happens inside, or nothing of it when an exception leaves.

        Raises ``TransientFailure`` (``outbox_full``) when the log has been away for long."""


class Relay(Protocol):
    """Moves an outbox to the log: at least once, in order, and deletes only what was acknowledged."""

    def step(self, timeout_s: float = 0.0) -> int:
        """Send what waits, take in what was acknowledged; how many rows moved. Waits up to ``timeout_s``, and only
        while something is under way: with an empty outbox it returns at once, so that a loop can sleep for itself."""

    def drain(self, timeout_s: float) -> int:
        """Step until the outbox is empty or the time is over; how many rows are left."""


class Chained(Protocol):
    """What a transaction offers for writing signed, chained records with it."""

    def publish(self, record: OutRecord) -> None:
        """Put a record into the outbox, in order."""

    def next_record_no(self) -> int:
        """The number of this producer's next signed result or heartbeat; each call takes one."""

    def chain_head(self) -> ChainHead:
        """Where this producer's audit chain stands."""

    def set_chain_head(self, head: ChainHead) -> None:
        """Move the chain on."""


class Scribe(Protocol):
    """Writes this worker's signed records into a transaction: results, audit, heartbeats, dead letters."""

    def result(self, tx: Chained, result: ActionResult, *, trace: Headers = ()) -> None:
        """One step of an execution; ``record_no`` is filled in here."""

    def audit(
        self,
        tx: Chained,
        kind: str,
        *,
        at_ns: int,
        execution_id: ExecutionId = ...,
        actor: str = "",
        detail: Values = ...,
        trace: Headers = (),
    ) -> None:
        """The next record of this worker's chain."""

    def node_state(self, tx: Chained, state: NodeState) -> None:
        """A heartbeat; ``record_no`` is filled in here."""

    def dead_letter(self, tx: Chained, record: Record, *, reason: str, message: str, at_ns: int) -> None:
        """The original bytes to the dead letters, and one audit record that says so."""


class StopSignal(Protocol):
    """Says when to stop; a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until it is set or the time (seconds) is over; whether it is set."""


class Runnable(Protocol):
    """A worker, put together and ready."""

    def run(self, stop: StopSignal) -> None:
        """Work until ``stop`` is set, then drain. Blocks."""


# --- the node --------------------------------------------------------------------------------------------------------


class JournalTx(Chained, Protocol):
    """One journal transaction: all of it becomes durable, or none."""

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        """The entry, as this transaction sees it."""

    def put(self, entry: JournalEntry) -> None:
        """Insert or move on an entry. Raises ``ValueError`` when its state would go back."""

    def advance(self, position: LogPosition, next_offset: int) -> None:
        """Everything below ``next_offset`` is taken in. Never goes back."""

    def raise_floor(self, at_ns: int) -> None:
        """Time is at least ``at_ns`` from now on. Never goes back."""


class Journal(Outbox, Protocol):
    """A node's durable memory. Every method may be called from any thread; ``begin`` is exclusive.

    ``acknowledge`` also moves OBSERVED entries whose records are all acknowledged to PUBLISHED.
    """

    @property
    def incarnation(self) -> Incarnation:
        """Born with the journal."""

    def begin(self) -> AbstractContextManager[JournalTx]:
        """A transaction: commits with an fsync on leaving, rolls back on an exception.

        Raises ``LimitExceeded`` (``journal_full``) or ``PermanentFailure`` (``journal_io``): stop claiming.
        """

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        """One entry."""

    def entries(self, *states: EntryState) -> Sequence[JournalEntry]:
        """All entries in these states, oldest first."""

    def next_offset(self, position: LogPosition) -> int | None:
        """Where to read on, if this log was ever read."""

    def positions(self) -> Mapping[LogPosition, int]:
        """Every log ever read, and its next offset."""

    def floor_ns(self) -> int:
        """The least that time can be."""

    def prune(self, *, ended_before_ns: int) -> int:
        """Forget PUBLISHED entries whose expiry lies before that; how many."""

    def close(self) -> None:
        """Idempotent."""


class Executor(Protocol):
    """The seam between the feed (Kafka, unprivileged) and the executor (journal, keyset, gate, effects): bytes in,
    bytes out. The two may become two processes; nothing but these calls passes between them."""

    def places(self) -> Sequence[TopicPartition]:
        """What to read now: this node's partition of the newest generation of its command topic first, then of older
        ones, then ``fleet.topology``. Does not block."""

    def starts(self, partitions: Sequence[LogPosition]) -> Mapping[LogPosition, Start]:
        """Where to begin reading each of them. Raises as ``take``."""

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Take in what was read: durable on return. Taking the same again is safe. Raises ``LimitExceeded`` or
        ``PermanentFailure`` when the journal cannot hold it: nothing was taken, read no further."""

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        """As ``Outbox.outbox``."""

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        """As ``Outbox.acknowledge``."""


class HeldProcess(Protocol):
    """A held process: a pidfd. Whatever happens to the pid, this never becomes another process."""

    def refresh(self) -> ProcessFacts | None:
        """The facts now; None when it is gone (or a zombie)."""

    def signal(self, number: int) -> bool:
        """Send a signal to exactly this process; False when it is gone already. Raises ``PermanentFailure``
        (``permission``)."""

    def signal_each(self, number: int) -> None:
        """Send a signal to each of its threads by itself. A signal to the whole process may wait for one thread that is
        held in the kernel while the others run on. Does nothing before Linux 6.9. Raises as ``threads``."""

    def threads(self) -> Sequence[ThreadFacts] | None:
        """Its threads now; None when it has ended. Raises ``PermanentFailure`` (``facts_hidden``), ``TransientFailure``
        when descriptors are short."""

    def wait_threads(
        self, settled: Callable[[Sequence[ThreadFacts]], bool], timeout_s: float
    ) -> Sequence[ThreadFacts] | None:
        """Blocks until ``settled`` says so of its threads, or the time is over; what was seen last, None when it has
        ended. Raises as ``threads``."""

    def children(self) -> Sequence[int] | None:
        """The pids of its children; None when it has ended. Complete only while none of its threads runs: who is told
        must hold each and look whether it is a child of this one. Raises as ``threads``."""

    def snapshot(self, *, timeout_s: float) -> ProcessSnapshot | None:
        """Everything the kernel shows of it, read while it is held; None when it has ended. Touches nothing. What takes
        longer, or cannot be read, is left out and said. Raises ``PermanentFailure`` (``facts_hidden``)."""

    def wait_gone(self, timeout_s: float) -> bool:
        """Blocks until it has ended, or the time is over."""

    def close(self) -> None:
        """Idempotent."""


class ProcessHandle(HeldProcess, Protocol):
    """A held process of which is known what it is."""

    @property
    def facts(self) -> ProcessFacts:
        """Read after the handle was opened, so they are this process's. Raises nothing: read once at opening."""


class Processes(Protocol):
    """The processes of this host."""

    def open(self, pid: int) -> ProcessHandle | None:
        """Hold the present holder of ``pid``; None when there is none, or only a zombie. Raises ``PermanentFailure``
        (``no_pidfd``, ``facts_hidden``) where the kernel has no pidfd or shows us nothing of it, ``TransientFailure``
        when descriptors are short."""

    def reopen(self, pid: int, claimed: ProcessIdentity) -> HeldProcess | None:
        """Hold the process that was bound earlier; None when it has ended, whoever has its pid now. Reads no more than
        what tells the two apart: it is called between a claim and its signal. Raises as ``open``."""

    def child(self, pid: int, *, of: int) -> HeldProcess | None:
        """Hold the present holder of ``pid`` where its parent is the holder of ``of``; None where it is not. Reads no
        more than that: on a machine that a fork bomb keeps busy every read takes its time. Raises as ``open``."""

    def boot_id(self) -> str:
        """This boot."""

    def boot_time_ns(self) -> int:
        """When this boot began, nanoseconds since the epoch."""

    def tick_ns(self) -> int:
        """The grain of start times, in nanoseconds."""

    def own_line(self) -> tuple[int, ...]:
        """This process, its ancestors, nearest first, and the sibling workers of the same supervisor."""

    def own_cgroup(self) -> str:
        """This process's cgroup where it is a unit or pod of its own; empty where it shares one."""


class Whereabouts(Enum):
    """Where a quarantined file is, as its own identity tells."""

    NAMED = auto()
    """Under its own name."""
    PARKED = auto()
    """In its parking directory."""
    GONE = auto()
    """In neither place."""


class Occupant(Enum):
    """What has the name that a file is to have again."""

    NOBODY = auto()
    OURS = auto()
    """The content that is to come back: it is back already."""
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Copied:
    """What went into the vault. Digests are hex, sizes bytes."""

    size: int
    sha256: str
    object_size: int
    object_sha256: str
    extents: tuple[Extent, ...]
    steady: bool
    """Whether the file looked the same before and after it was read."""


@dataclass(frozen=True, slots=True)
class VaultLimits:
    """What this node sets. In bytes."""

    max_file: int
    quota: int
    """Of all objects together."""
    reserve: int
    """What must stay free on the vault's filesystem."""


class Place(Protocol):
    """The directory that a file was taken from, held: whatever becomes of its path, this stays that directory.

    One thread at a time. Every method may be called again after a crash in it, and blocks on the disk. All raise
    ``PermanentFailure`` (``permission``, ``refused_readonly``, ``io_error`` …) and ``LimitExceeded``
    (``failed_enospc``).
    """

    def where(self) -> Whereabouts:
        """Where the file is now."""

    def park(self) -> bool:
        """Q1: take its name away, into a root-only directory beside it, both directories durable. False when what had
        the name was another file; then that one has its name again. Raises ``PermanentFailure`` (``parking_taken``)."""

    def unpark(self) -> bool:
        """Give its name back, with the permissions and flags it had. False when the name is taken: it stays parked."""

    def copy(self, *, limit: int, deadline_ns: int) -> Copied:
        """Q2: its content into a new part in the vault, durable. Raises ``LimitExceeded`` (``too_large`` at the first
        byte beyond ``limit``, ``timed_out``, ``refused_quota``)."""

    def verify(self, copied: Manifest, *, deadline_ns: int) -> None:
        """Q3 and after a crash: read part or object back and compare with what ``copied`` says of it. Raises
        ``PermanentFailure`` (``object_damaged``), ``LimitExceeded`` (``timed_out``)."""

    def unchanged(self) -> bool:
        """Whether the parked file looks as it did when the last ``copy`` began."""

    def store(self) -> None:
        """Q4: the part is the object from now on, durably."""

    def discard(self) -> None:
        """Remove part and object."""

    def holders(self, *, deadline_ns: int) -> Holders:
        """Who has the parked file open or mapped, as far as could be seen in time."""

    def remove(self) -> None:
        """Q5: unlink the parked file (never another), remove its directory, durably."""

    def occupant(self, *, deadline_ns: int) -> Occupant:
        """What has the name."""

    def build(self, *, deadline_ns: int) -> None:
        """R1 and R2: a new file without the name, its content out of the object and compared. Raises as ``verify``."""

    def dress(self) -> None:
        """R3: owner, mode, attributes, access control lists, times, in the order in which none undoes another. Raises
        ``PermanentFailure`` (``metadata_refused``)."""

    def settle(self) -> None:
        """R4: the new file is durable."""

    def link(self) -> bool:
        """R5: give it the name; False when that is taken, and nothing is overwritten."""

    def finish(self) -> None:
        """R6: inode flags, then the directory is durable."""

    def close(self) -> None:
        """Let go; a new file that never got the name vanishes. Idempotent."""


class Vault(Protocol):
    """This node's quarantine, and the way of files into it and back. Any thread; blocks on disks."""

    @property
    def limits(self) -> VaultLimits:
        """What this node allows."""

    def examine(self, where: Location) -> FileFacts | None:
        """The file that has this absolute path, reached without following a link; None when nothing has it. Touches
        nothing, opens nothing but regular files, and enters no filesystem that need not answer unless it may.

        Raises ``CommandRejected`` (``invalid_target``, ``symlink_in_path``, ``remote_filesystem``, ``container_gone``,
        ``container_root_shared``), ``PermanentFailure`` (``permission``, ``io_error``), ``TransientFailure`` when
        descriptors are short.
        """

    def lift(self, where: Location, expected: FileIdentity) -> FileFacts | None:
        """As ``examine``, once the file has the identity that it keeps when it is moved: on an overlay a file of a
        lower layer is copied up, which changes nothing else about it. None when another file, or none, has the path.
        Raises also ``LimitExceeded`` (``failed_enospc``)."""

    def protected_places(self) -> ProtectedPlaces:
        """What the protected paths are at this moment."""

    def make_room(self, size: int) -> None:
        """Whether so many bytes may come. Raises ``LimitExceeded`` (``refused_quota``, ``failed_enospc``)."""

    def parking_name(self) -> bytes:
        """A name that nobody can guess."""

    def object_path(self, execution_id: ExecutionId) -> str:
        """Where the object of a quarantine is or would be."""

    def manifest(self, execution_id: ExecutionId) -> Manifest | None:
        """The newest manifest of a quarantine, its signature checked. Raises ``PermanentFailure``
        (``manifest_damaged``), ``TransientFailure`` (``keyset_expired``)."""

    def record(self, manifest: Manifest) -> None:
        """Make it the newest, signed and durable on return. Raises ``LimitExceeded`` (``failed_enospc``),
        ``PermanentFailure``."""

    def place(self, manifest: Manifest, inside: Enclosure | None) -> Place | None:
        """Hold the directory a manifest names, in this run of its container; None when another directory, or none, has
        its path now. Raises as ``examine``."""


class ObjectSource(Protocol):
    """A complete object on its way: nobody changes it any more."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def sha256(self) -> str:
        """What its bytes must hash to, in hex."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly these bytes. Blocks on the disk. Raises ``PermanentFailure`` (``spool_damaged``, ``io_error``)."""

    def link(self, directory: int, name: str) -> bool:
        """Give its own file, which is durable, this name in an open directory too, for its owner to read alone; False
        where it has none, or that directory is on another filesystem. Raises ``FileExistsError`` where the name is
        taken, and any other ``OSError``."""

    def close(self) -> None:
        """Idempotent."""


class Written(Enum):
    """What a conditional put did."""

    NEW = auto()
    THERE = auto()
    """An object has this name already, and still has what it had."""


class ObjectStore(Protocol):
    """Where gathered objects go, as a node may use it: it adds, and never overwrites, reads others' or deletes.

    Any thread; blocks on the network. All raise ``TransientFailure`` (``store_unavailable``) when the store is away or
    answers with a fault of its own, ``PermanentFailure`` (``store_refused``) when it will not have us.
    """

    def put(self, key: str, source: ObjectSource, *, deadline_ns: int) -> Written:
        """Store ``source`` under ``key`` unless something has that name: whole or not at all, however often it is
        called, and on from where an earlier call got to. What is sent is hashed on the way and compared.

        Raises ``LimitExceeded`` (``timed_out``, ``store_full``), and what ``read_at`` raises.
        """

    def holds(self, key: str, source: ObjectSource, *, deadline_ns: int) -> bool | None:
        """Whether the object of that name is this one, by the store's own size and digest of it; None where this node
        may not look, which is as it should be."""

    def answers(self) -> bool:
        """Whether the store can be reached at this moment. Raises nothing."""

    def unfinished(self) -> Sequence[str]:
        """Keys of this node's own uploads that began and were neither finished nor given up."""

    def give_up(self, key: str) -> None:
        """End every unfinished upload of a key. Idempotent."""


class StoredObject(Protocol):
    """An object being read."""

    @property
    def size(self) -> int:
        """In bytes."""

    def read(self, length: int) -> bytes:
        """The next bytes, at most ``length``; empty at the end. Raises ``TransientFailure``."""

    def close(self) -> None:
        """Idempotent."""


class ObjectReader(Protocol):
    """Where gathered objects are, as the gateway may use it: it reads."""

    def open(self, key: str) -> StoredObject | None:
        """The object; None where there is none. Raises as ``ObjectStore``."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What was read of a file."""

    size: int
    """Bytes; holes count."""
    sha256: str
    facts: FileFacts
    """As the file was when reading began."""
    steady: bool
    """Whether it looked the same before and after it was read."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept of something that was made or streamed."""

    size: int
    sha256: str
    whole: bool
    """Whether nothing was left out."""


class Spool(Protocol):
    """This node's shelf for what waits to be uploaded, and the way of files onto it. Any thread; blocks on disks.

    All raise ``PermanentFailure`` (``permission``, ``io_error``, ``spool_unusable``), ``LimitExceeded``
    (``failed_enospc``), ``TransientFailure`` when descriptors are short.
    """

    @property
    def largest(self) -> int:
        """Bytes of the largest file that this node takes."""

    def examine(self, where: Location) -> FileFacts | None:
        """As ``Vault.examine``."""

    def own_places(self) -> ProtectedPlaces:
        """What of this worker's own nobody may read through it."""

    def secret_places(self) -> ProtectedPlaces:
        """What the secret paths are at this moment."""

    def make_room(self, size: int) -> None:
        """Whether so many bytes may come. Raises ``LimitExceeded`` (``failed_enospc``)."""

    def copy(
        self, execution_id: ExecutionId, where: Location, expected: FileIdentity, *, deadline_ns: int
    ) -> Copy | None:
        """The content of the file that is ``where``, durable here, in place of any earlier copy; None when another
        file, or none, has the path now. Reads what the file had when reading began, and no byte beyond the limit.

        Raises ``LimitExceeded`` (``too_large``, ``timed_out``).
        """

    def keep(self, execution_id: ExecutionId, pieces: Iterable[bytes], *, deadline_ns: int) -> Kept:
        """What is no file, durable here, in place of any earlier copy: all pieces up to the first that goes beyond
        ``largest``. Raises ``LimitExceeded`` (``timed_out``), and what ``pieces`` raises."""

    def seal(self, custody: Custody) -> None:
        """The copy is complete: this says what it is, signed, and is durable on return."""

    def custody(self, execution_id: ExecutionId) -> Custody | None:
        """What is known of a complete copy, its signature checked; None where there is none. Raises
        ``PermanentFailure`` (``custody_damaged``), ``TransientFailure`` (``keyset_expired``)."""

    def object(self, execution_id: ExecutionId) -> ObjectSource:
        """A complete copy. Raises ``PermanentFailure`` (``spool_lost``)."""

    def custody_object(self, execution_id: ExecutionId) -> ObjectSource:
        """Its signed custody record. Raises as ``object``."""

    def release(self, execution_id: ExecutionId) -> None:
        """The store has both: the copy goes, durably, and its custody record says from now on that it was delivered."""

    def delivered(self, execution_id: ExecutionId) -> bool:
        """Whether the store has everything of an execution."""

    def discard(self, execution_id: ExecutionId) -> None:
        """Remove everything of an execution. Idempotent."""

    def kept(self) -> Sequence[ExecutionId]:
        """Every execution that something is kept of, complete or not."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a runtime said against a call that it surely did not carry out."""

    message: str
    may_pass: bool
    """Whether the same call may work in a moment."""


class Containers(Protocol):
    """The containers of this host, of every runtime whose socket is to be trusted, and of the kernel where none of
    them serves an id. Any thread; every method asks a runtime and blocks: looks up to 10 s for each runtime, ``stop``
    its grace and 5 s.

    Looks touch nothing, may be repeated, and raise ``TransientFailure`` (``unavailable``) when a runtime cannot be
    reached or does not answer. Effects act on a whole id, never on a name, and say nothing about the state afterwards:
    look. They raise ``TransientFailure`` (``unavailable``) when the runtime surely did not get the call, and
    ``Indeterminate`` (``runtime_silent``) when it may have: then it may be carried out at any later time.
    """

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        """Every container whose id begins so. Raises only where nothing was found and a runtime that may have it was
        not heard, or there is no runtime."""

    def inspect(self, ref: ContainerRef) -> ContainerFacts | None:
        """It, now; None when its runtime has it no longer."""

    def await_end(self, ref: ContainerRef, *, started_at_ns: int, timeout_s: float) -> ContainerFacts | None:
        """Look until the run that started then is over, or the time is: what was seen last, None when it is gone."""

    def restrain(self, ref: ContainerRef, policy: RestartPolicy) -> Refusal | None:
        """Give it this restart policy. Idempotent."""

    def kill(self, ref: ContainerRef) -> Refusal | None:
        """SIGKILL to all of it. Not idempotent by itself: a second call meets whichever run there is, except by the
        kernel, which knows the run."""

    def stop(self, ref: ContainerRef, *, grace_s: int) -> Refusal | None:
        """Its stop signal, and SIGKILL after ``grace_s``. As ``kill``."""

    def start(self, ref: ContainerRef) -> Refusal | None:
        """A new run. Does nothing to one that runs."""

    def pause(self, ref: ContainerRef) -> Refusal | None:
        """Freeze all its processes. Refused where it is not running, or paused already."""

    def unpause(self, ref: ContainerRef) -> Refusal | None:
        """Thaw them. Refused where it is not paused."""

    def logs(self, ref: ContainerRef, *, tail: int, since_ns: int) -> Generator[bytes]:
        """What it wrote, oldest first, as far as its runtime kept it: pieces that are whole lines, each with its time,
        its stream, and whether it ended (``<time> <stdout|stderr> <F|P> <text>``). At most its last ``tail`` lines (0:
        all), none before ``since_ns`` (0: from the beginning). Asked for as it is consumed; close it to ask no more.
        Touches nothing. Raises, also on the way, ``TransientFailure``; ``PermanentFailure`` (``logs_unsupported`` where
        nobody but a runtime has them, ``logs_unavailable``, ``logs_unreadable``)."""

    def own_ids(self) -> Collection[str]:
        """The containers that this worker itself runs in. Asks no runtime."""

    def runtimes(self) -> Sequence[Runtime]:
        """The sockets that there are, trusted or not. Blocks at most a second for each that hangs; raises nothing."""


class NetworkPlace(Protocol):
    """One network namespace, held: another that comes in its stead is never meant. One thread at a time; every method
    asks the kernel alone, in milliseconds, but ``blocks``, which takes up to a second.

    Every method raises ``PermanentFailure`` (``nftables``) when the kernel refuses what was asked, with its reason.
    """

    @property
    def namespace(self) -> int:
        """Its inode: which namespace this is, as long as it is held."""

    @property
    def own(self) -> bool:
        """Whether this worker itself lives in it."""

    def barrier(self) -> Barrier | None:
        """The isolation that is in place, whoever made it."""

    def bypass(self) -> str:
        """What would carry packets round an isolation (an eBPF program and where it sits); empty for nothing."""

    def interfaces(self) -> Sequence[str]:
        """The names of its interfaces but loopback, sorted."""

    def begin(self, isolation: Isolation) -> bool:
        """Put it in place in one step, as a trial that opens by itself after ``TRIAL_S``, whatever becomes of this
        worker. False, and nothing is changed, where there is one already."""

    def keep(self, isolation: Isolation, tried: Barrier) -> bool:
        """Make the tried one last, in one step. False, and nothing is changed, where it is not there any more."""

    def end(self, barrier: Barrier) -> bool:
        """Take this one away. False where it is not there any more."""

    def blocks(self, isolation: Isolation, near: Sequence[str]) -> str:
        """Send packets that must not leave, towards these addresses and others, and look whether the kernel refused
        and counted them. Empty when it did, or when no way leads out at all; else what is wrong."""

    def close(self) -> None:
        """Let go of it. Idempotent."""


class Network(Protocol):
    """Network namespaces, and what this worker must reach. Any thread."""

    def unfit(self) -> str:
        """Why networks cannot be isolated here at all (no library, no privilege), and what to do; empty if they can."""

    def host(self) -> NetworkPlace:
        """The namespace that this worker lives in.

        Raises:
            CommandRejected: it is not the host's (``not_host_network``).
        """

    def of_process(self, pid: int) -> NetworkPlace | None:
        """The namespace that a process lives in; None when it has ended.

        Raises:
            PermanentFailure: this worker may not look (``permission``).
        """

    def lifelines(self) -> Lifelines:
        """What this node lives by: brokers, object store, API server, and DNS where one of them has only a name. Asks
        brokers and DNS; blocks up to 15 s.

        Raises:
            TransientFailure: the brokers cannot be asked, or a name has no address now (``no_lifeline``).
        """

    def operators(self) -> Lifelines:
        """The operator's own list."""

    def answering(self, lifelines: Iterable[Lifeline]) -> frozenset[Lifeline]:
        """Those of one address and a TCP port that take a fresh connection from where this worker lives. Blocks up to
        ``CONNECT_S``."""


class ProgressBoard(Protocol):
    """Where those who upload say how far they are. Any thread; does not block, raises nothing."""

    def tell(self, execution_id: ExecutionId, *, done: int, size: int) -> None:
        """Of ``size`` bytes the store has ``done``. Less than was told before changes nothing."""

    def over(self, execution_id: ExecutionId) -> None:
        """Nothing of it is under way any more, however it ended. Idempotent."""


class Untold:
    """A ``ProgressBoard`` that nobody looks at."""

    def tell(self, execution_id: ExecutionId, *, done: int, size: int) -> None:
        """Nothing."""

    def over(self, execution_id: ExecutionId) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Host:
    """Everything an action may touch: the ports of this machine. New kinds of action add a field here."""

    processes: Processes
    clock: Clock
    failpoints: Failpoints
    vault: Vault | None = None
    """None where this machine keeps no quarantine: actions on files are refused."""
    spool: Spool | None = None
    objects: ObjectStore | None = None
    """None where no object store is configured: actions that gather are refused."""
    containers: Containers | None = None
    """None where no runtime is asked: actions on containers are refused."""
    network: Network | None = None
    """None where no network can be isolated: those actions are refused."""
    progress: ProgressBoard = field(default_factory=Untold)


class Retrying(Protocol):
    """The retry doorway."""

    def run(self, attempt: Callable[[int], T], *, first: int, deadline_ns: int) -> T:
        """Call ``attempt(n)`` with n counting from ``first`` until it returns, on ``TransientFailure`` only, with
        full jitter, never past ``deadline_ns``; then the last failure comes through. Blocks."""


# --- the dispatcher --------------------------------------------------------------------------------------------------


class LedgerTx(Chained, Protocol):
    """One ledger transaction. The dispatcher's own rows are defined by its room; see ``dispatcher.ledger_rows``."""

    def advance(self, position: LogPosition, next_offset: int) -> None:
        """Everything below ``next_offset`` is taken in."""

    def get(self, kind: str, key: str) -> bytes | None:
        """A row of a kind (``execution``, ``node``, ``host``, ``cooldown`` …)."""

    def put(self, kind: str, key: str, value: bytes, *, due_ns: int = 0) -> None:
        """Insert or replace; ``due_ns`` puts it on the timer list, 0 takes it off."""

    def delete(self, kind: str, key: str) -> None:
        """Idempotent."""

    def due(self, kind: str, now_ns: int, *, limit: int = 500) -> Sequence[tuple[str, bytes]]:
        """Rows whose time has come, earliest first."""

    def scan(self, kind: str, prefix: str = "") -> Sequence[tuple[str, bytes]]:
        """Rows of a kind whose key begins so, in key order."""


class Ledger(Outbox, Protocol):
    """The dispatcher's durable memory: intake offsets, state and outbox in one transaction."""

    def begin(self) -> AbstractContextManager[LedgerTx]:
        """As ``Journal.begin``."""

    def next_offset(self, position: LogPosition) -> int | None:
        """Where to read on."""

    def close(self) -> None:
        """Idempotent."""


# --- history ---------------------------------------------------------------------------------------------------------


class HistoryTx(Protocol):
    """One transaction of the projector: rows and offsets together."""

    def advance(self, position: LogPosition, *, expected: int | None, next_offset: int) -> None:
        """Move the offset on if it still is ``expected`` (None: never read). Raises ``PermanentFailure``
        (``second_owner``) when another projector moved it."""

    def steps(self, execution_ids: Iterable[ExecutionId]) -> Mapping[ExecutionId, Sequence[FoldedStep]]:
        """The steps folded so far."""

    def put_steps(self, steps: Iterable[FoldedStep]) -> None:
        """Add steps, their ``payload`` and ``signed`` bytes with them. Idempotent."""

    def put_execution(self, execution: Execution) -> None:
        """Replace an execution's row by its fold."""

    def put_event(self, event: RuntimeEvent, *, payload: bytes) -> None:
        """``payload`` is the event encoded. Idempotent by (event id, content); of an id that arrives with two contents
        the first to arrive is shown."""

    def put_node(self, state: NodeState, *, payload: bytes, verified: bool, folded_at_ns: int) -> None:
        """``payload`` is the state encoded. Keep the newest of each incarnation, by record number."""

    def put_audit(self, record: AuditRecord, *, payload: bytes, signed: bytes, verified: bool) -> None:
        """Idempotent by (chain, number, content). ``signed`` is the envelope that ``payload`` came in."""

    def senders(self, names: Iterable[str]) -> Mapping[str, Ranges]:
        """Which record numbers were seen of each sender; a sender never seen is missing."""

    def put_sender(self, name: str, seen: Ranges) -> None:
        """Replace what was seen of a sender."""

    def record_digests(self, places: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], frozenset[str]]:
        """The digests of the steps that carry these record numbers, by (sender, number): more than one is a clone."""

    def put_unverified(self, position: LogPosition, offset: int, *, value: bytes, reason: str, at_ns: int) -> None:
        """Kept apart (the first 64 KiB), never folded. Idempotent."""

    def put_gap(self, position: LogPosition, *, expected: int, resumed_at: int, reason: str, at_ns: int) -> None:
        """A gap in what could be read. Idempotent."""

    def forgotten(self) -> Cutoffs:
        """How far retention has come."""

    def forget(self, cutoffs: Cutoffs, *, limit: int) -> Forgotten:
        """Move retention on (it never goes back) and forget at most ``limit`` rows of each kind that are older and
        that nobody needs any more, as ``core.retention`` says. Call again until nothing went."""


class HistoryStore(Protocol):
    """The queryable store. Readers may run in other processes than the one writer."""

    def begin(self) -> AbstractContextManager[HistoryTx]:
        """Commits on leaving, rolls back on an exception. Raises ``TransientFailure`` when the database is away."""

    def next_offset(self, position: LogPosition) -> int | None:
        """Where to read on."""

    def execution(self, execution_id: ExecutionId) -> Execution | None:
        """One, with its steps."""

    def executions(self, query: ExecutionQuery) -> Page[Execution]:
        """Newest request first, without steps. Raises ``ValueError`` for a cursor that is none."""

    def undone_by(self, execution_id: ExecutionId) -> Execution | None:
        """The completed undo of an execution."""

    def contained(self) -> Sequence[Execution]:
        """Executions whose effect holds right now: not undone by a completed undo."""

    def event(self, event_id: EventId) -> StoredEvent | None:
        """One event."""

    def events(self, query: EventQuery) -> Page[StoredEvent]:
        """Newest first."""

    def nodes(self) -> Sequence[StoredNode]:
        """Every node ever heard, by node id."""

    def audit(self, *, execution_id: str = "", chain_id: str = "", limit: int = 200) -> Sequence[StoredAudit]:
        """Audit records, newest first."""

    def health(self) -> StoreHealth:
        """How far it has come."""

    def digest(self) -> str:
        """SHA-256 over everything folded (``core.search``), whatever the order: equal for equal histories. Offsets,
        gaps and what does not verify are no part of it."""

    def close(self) -> None:
        """Idempotent."""


class LiveHistory(Protocol):
    """The live store, of one moment, beside the one that is to take its place."""

    @property
    def positions(self) -> Mapping[LogPosition, int]:
        """Every log it ever read, and its next offset."""

    @property
    def forgotten(self) -> Cutoffs:
        """How far retention has come in it."""

    def digest(self) -> str:
        """As ``HistoryStore.digest``."""

    def carry(self, reach: Reach) -> Carried:
        """Copy into the new store what only this one has, as far as it is older than the log reaches. Idempotent."""

    def settle(self, reach: Reach) -> None:
        """Let the new store go on where this one stands: offsets, what was seen of each sender, how far retention has
        come, and what was put aside that no log has any more. Idempotent."""

    def replace(self, *, keep: bool) -> str:
        """Let the new store take this one's place, in one step; only inside ``Rebuilding.held``, at its end. Where the
        old one was kept, if ``keep``."""


class Rebuilding(Protocol):
    """A store in the making beside the live one, of one rebuild at a time. Until ``replace`` the live one is as it was;
    a rebuild that was killed leaves the one or the other whole, and what else it left the next one removes."""

    @property
    def live(self) -> HistoryStore:
        """The live store."""

    @property
    def fresh(self) -> HistoryStore:
        """The store in the making; empty at first."""

    def frozen(self) -> AbstractContextManager[LiveHistory]:
        """The live store as it is now, whatever its projector goes on to write."""

    def held(self) -> AbstractContextManager[LiveHistory]:
        """The live store while nobody can write to it. Raises ``TransientFailure`` when another writer keeps it."""

    def close(self) -> None:
        """Remove what is not live. Idempotent."""
