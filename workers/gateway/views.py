"""What the native face shows: frozen values whose docstrings are the descriptions in the OpenAPI document.

Made by ``showing`` (executions) and ``fleet_showing`` (everything else); written as JSON by ``http``. Times are RFC
3339 with nine digits, None where not reached. Whole numbers that a double cannot hold travel as text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Flat = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Why a request was not served; the same shape on every status."""

    type: str
    """A stable code."""
    message: str
    """One line for people: what was wrong, and what to do."""
    details: tuple[Mapping[str, str], ...] = ()
    """What was wrong with which field."""


@dataclass(frozen=True, slots=True)
class TargetProcessView:
    """A process as the request named it."""

    pid: int
    """The process id."""
    started_at: str | None
    """When it started, where the requester or the detector knew."""
    exe: str
    """Its executable, as the detector said."""
    name: str
    """Its name, as the detector said."""
    command_line: str
    """Its command line, as the detector said, secrets masked."""


@dataclass(frozen=True, slots=True)
class TargetView:
    """What an execution acts on."""

    kind: str
    """process, container or file."""
    description: str
    """One line for people."""
    observed_at: str | None
    """The event's time, or the request's: only what was there before is acted on."""
    process_line: tuple[TargetProcessView, ...] = ()
    """The process, then its parent, grandparent and so on, as far as known."""
    container_id: str = ""
    """The container, or the container that the file is in."""
    path: str = ""
    """The file."""


@dataclass(frozen=True, slots=True)
class PostConditionView:
    """What was checked after acting."""

    name: str
    """What was checked."""
    holds: bool
    """Whether it held."""
    detail: str
    """What was seen."""


@dataclass(frozen=True, slots=True)
class StepView:
    """One signed step of an execution."""

    stage: str
    """REQUESTED, HELD, DISPATCHED, CLAIMED or ENDED."""
    outcome: str | None
    """How it ended, in ENDED steps."""
    code: str
    """The stable code."""
    message: str
    """For people."""
    producer: str
    """Who wrote the step: dispatcher or node."""
    attempt: int
    """The try it belongs to; 0 before the first."""
    seq: int
    """Counts this producer's steps of the execution."""
    at: str | None
    """When."""
    alarm: str
    """An alarm on the execution, which is not an end."""
    signer: str
    """Fingerprint of the key whose signature was verified; empty where the store does not have it."""
    digest: str
    """SHA-256 of the exact bytes that were signed."""


@dataclass(frozen=True, slots=True)
class TimingsView:
    """How long containment took; None where a moment is missing. Microseconds."""

    detected_at: str | None
    """The event's time; None where a person asked of their own accord."""
    acted_at: str | None
    """When the node had claimed the execution and began to act."""
    verified_at: str | None
    """When the outcome was known and its post-condition checked."""
    detected_to_acted_us: int | None
    """From the event to the node's claim."""
    acted_to_verified_us: int | None
    """From the node's claim to the checked outcome."""
    detected_to_verified_us: int | None
    """From the event to the checked outcome."""


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """One execution: what was asked, how far it is, how it ended, and the proof."""

    id: str
    """A UUIDv7."""
    action: str
    """The action's name in the catalogue."""
    stage: str
    """REQUESTED, HELD, DISPATCHED, CLAIMED or ENDED."""
    outcome: str | None
    """COMPLETED, PARTIAL, NO_ACTION, FAILED, REJECTED, TIMED_OUT, EXPIRED, CANCELED, DRY_RUN or UNKNOWN; None until it
    has ended."""
    code: str
    """The stable code: action, success or error, reason."""
    message: str
    """For people."""
    host: str
    """The host as the request named it."""
    node_id: str
    """The node it was resolved to; empty until then."""
    incarnation: str
    """Which life of that node's journal."""
    target: TargetView | None
    """What it acts on; None for an undo, or until the request is folded."""
    parameters: Flat
    """The action's parameters."""
    actor: str
    """The person or rule that asked."""
    actor_kind: str
    """person or rule; empty until the request is folded."""
    reason: str
    """Why, in the asker's words."""
    rule: str
    """The rule that asked; empty for a person."""
    event_id: str
    """The event that led here."""
    caller_id: str
    """The client's own correlation id."""
    dry_run: bool
    """Whether nothing was to be touched."""
    undo_of: str
    """The execution that this one undoes."""
    undo_after_s: int
    """Seconds after which a success is undone by itself; 0 never."""
    attempts: int
    """How often it was tried."""
    outputs: Flat
    """What the action reports, as its catalogue entry describes."""
    post_condition: PostConditionView | None
    """What was checked after acting."""
    effect_holds: bool
    """Whether an effect is in place that an undo could lift."""
    cause: str
    """action, or unproven where the effect was found in place after a crash."""
    late: bool
    """The outcome was observed after the command's expiry."""
    conflict: bool
    """Two different final outcomes, or two records for one step, were signed."""
    alarms: tuple[str, ...]
    """Such as node_silent."""
    configuration: Flat
    """The node's own settings of this action when it ran."""
    command_sha256: str
    """SHA-256 of the signed command."""
    requested_at: str | None
    """When it was asked for."""
    dispatched_at: str | None
    """When the dispatcher had signed and sent it."""
    claimed_at: str | None
    """When the node had made its intent durable."""
    ended_at: str | None
    """When the outcome was known."""
    updated_at: str | None
    """The newest step."""
    timings: TimingsView
    """Detected, acted, verified."""
    steps: tuple[StepView, ...] = ()
    """In the order of the ladder; only where one execution is asked for."""


@dataclass(frozen=True, slots=True)
class EventView:
    """One detection, normalised. Its content is the detector's word."""

    id: str
    """The detector's own id, or one derived from the content."""
    detector: str
    """Such as falco."""
    source: str
    """Such as syscall."""
    rule: str
    """The detector's rule."""
    priority: str
    """emergency, alert, critical, error, warning, notice, informational or debug."""
    occurred_at: str | None
    """When it happened."""
    host: str
    """Node id or host name, as the detector gave it."""
    message: str
    """The detector's line."""
    tags: tuple[str, ...]
    """The rule's tags."""
    process_line: tuple[TargetProcessView, ...]
    """The process, its parent, and so on."""
    container_id: str
    """12 to 64 hex digits, or empty."""
    container_name: str
    """The container's name."""
    container_image: str
    """Its image."""
    file_path: str
    """The file, or empty."""
    cluster: str
    """Kubernetes cluster."""
    namespace: str
    """Kubernetes namespace."""
    workload: str
    """Kubernetes pod or workload."""
    caused_by: str
    """Our own execution that caused this event, or empty."""
    fields: Flat
    """The detector's own output fields."""
    executions: tuple[str, ...]
    """Executions it led to."""


@dataclass(frozen=True, slots=True)
class AcceptedEventView:
    """One event that the log has."""

    event_id: str
    """Its id."""


@dataclass(frozen=True, slots=True)
class PositionView:
    """The next offset a node will take in from one command partition."""

    log_id: str
    """Names the log."""
    topic: str
    """The command topic."""
    partition: int
    """Its partition."""
    next_offset: int
    """The next offset."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node's newest heartbeat."""

    node_id: str
    """32 hex digits."""
    incarnation: str
    """Born with the node's journal."""
    instance_id: str
    """New at each start."""
    record_no: int
    """Counts the node's signed records."""
    at: str | None
    """When the node said it, by its own clock."""
    boot_id: str
    """The host's boot."""
    machine_key: str
    """A keyed hash of the machine id."""
    node_key: str
    """Fingerprint of its key."""
    host_names: tuple[str, ...]
    """Names events call this host."""
    zone: str
    """Whose command topic it reads."""
    cluster: str
    """Its cluster."""
    version: str
    """The worker's version."""
    actions: tuple[str, ...]
    """Actions whose trigger is ALL."""
    runtimes: tuple[str, ...]
    """Sockets of the container runtimes that it uses."""
    positions: tuple[PositionView, ...]
    """How far it has read its commands."""
    queued: int
    """Executions that wait."""
    running: int
    """Executions under way."""
    unpublished: int
    """Records that the log does not have yet."""
    health: str
    """ok, or what is wrong."""
    labels: Flat
    """The operator's labels."""
    verified: bool
    """Whether the heartbeat's signature holds."""
    folded_at: str | None
    """When history took it in."""


@dataclass(frozen=True, slots=True)
class FieldView:
    """One parameter or output."""

    name: str
    """Its name."""
    type: str
    """string, integer or boolean."""
    description: str
    """What it means."""
    required: bool
    """Whether it must be given."""
    default: str | int | bool | None
    """What it is when not given."""
    minimum: int | None
    """Smallest integer."""
    maximum: int | None
    """Largest integer, or longest text in characters."""


@dataclass(frozen=True, slots=True)
class ActionView:
    """One entry of the catalogue."""

    name: str
    """Its name, here and in a node's settings."""
    type: str
    """Its name in the compatible API."""
    summary: str
    """What it does."""
    drawbacks: tuple[str, ...]
    """What it costs."""
    permission: str
    """The class of permission it needs."""
    lane: str
    """containment or gathering."""
    target: str
    """process, container or file."""
    parameters: tuple[FieldView, ...]
    """What may be chosen."""
    outputs: tuple[FieldView, ...]
    """What it reports."""
    privileges: tuple[str, ...]
    """Linux capabilities it needs for others' objects."""
    mounts: tuple[str, ...]
    """Host paths a containerised worker needs."""
    reversible_by: str | None
    """The action that undoes it; None where nothing does."""
    undo_only: bool
    """Runs only as another action's undo."""
    ttl_s: int
    """Seconds after which a request of it may no longer start, unless the request says otherwise."""
    timeout_s: int
    """Seconds a run may take."""
    example_target: TargetView | None
    """An example of what it acts on."""
    example_parameters: Flat
    """An example of its parameters."""


@dataclass(frozen=True, slots=True)
class HealthView:
    """Whether the gateway works; the rest only with a token."""

    live: bool
    """The process answers."""
    ready: bool
    """History can be read."""
    version: str | None = None
    """The gateway's version."""
    now: str | None = None
    """The gateway's clock."""
    nodes: int | None = None
    """Nodes ever heard."""
    executions: int | None = None
    """Executions in history."""
    offsets: Mapping[str, int] | None = None
    """topic/partition to the next offset that history will fold."""
    unverified: int | None = None
    """Records kept apart because their signature did not hold."""
    conflicts: int | None = None
    """Executions with contradicting signed steps."""
    gaps: int | None = None
    """Gaps in what could be read."""
