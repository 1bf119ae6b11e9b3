"""One execution, its steps and its proof. Made by ``showing``."""

from dataclasses import dataclass

from workers.gateway.views.targets import Flat, TargetView


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
