"""Whether a request is valid: its principal fits its topic, its ids and sizes are in bounds.

Pure. Called by the dispatcher's ``intake`` before anything is kept, and by the gateway before anything is written, so
that both agree. What fails at the dispatcher becomes a dead letter, because nothing in it can be trusted to name an
execution; what passes ends in exactly one outcome per step.
"""

import re
from dataclasses import replace
from typing import Final

from workers.domain.event import ProcessRef
from workers.domain.ids import ExecutionId, is_execution_id
from workers.domain.log import topics
from workers.domain.request import ActionRequest, ActorKind, Step, Verb
from workers.domain.target import FileTarget, ProcessTarget, Target

SOURCES: Final = {topics.REQUESTS_PEOPLE: ActorKind.PERSON, topics.REQUESTS_RULES: ActorKind.RULE}
"""Whose requests each topic holds. ``domain.trust.authority`` has whose key must have signed them."""

MAX_STEPS: Final = 10
MAX_TEXT: Final = 1024
MAX_PARAMETERS: Final = 64
DAY_S: Final = 86_400
LONGEST_UNDO_AFTER_S: Final = 30 * DAY_S

_ACTION = re.compile(r"[a-z][a-z0-9_]{0,63}")


class NotARequest(ValueError):
    """The reason code and the one line that go with the dead letter."""

    def __init__(self, reason: str, message: str) -> None:
        """``reason`` is a stable code."""
        super().__init__(message)
        self.reason = reason


MAX_AGE_NS: Final = 6 * DAY_S * 1_000_000_000
"""An execution is remembered for 8 days (``transaction.KEEP_NS``): longer than this and ``MAX_AHEAD_NS`` together, so
that a signed request that is written once more never begins anything."""

MAX_AHEAD_NS: Final = 25 * 3600 * 1_000_000_000
"""How far a requester's clock may be ahead: a day, as a wrong time zone or date makes it, and an hour."""

MAX_BYTES: Final = 64 * 1024
"""Of a whole request as it travels: it travels once more inside the REQUESTED record of each of its steps."""

MAX_EVIDENCE: Final = 32 * 1024
"""Of that, for paths, and for the names, executables and command lines of the processes that its targets name. The
process that was detected chose them: if they could make a request too large, a long command line would evade any rule.
"""


def fitted(request: ActionRequest) -> ActionRequest:
    """The request with its evidence cut to ``MAX_EVIDENCE``, the longest texts first; the event keeps them whole."""
    lines = [step.target.line for step in request.steps if isinstance(step.target, ProcessTarget)]
    lengths = sorted(len(text.encode()) for line in lines for process in line for text in _evidence(process))
    paths = sum(len(step.target.path) for step in request.steps if isinstance(step.target, FileTarget))
    left, limit = max(0, MAX_EVIDENCE - paths), 0
    if sum(lengths) <= left:
        return request
    for number, length in enumerate(lengths):
        limit = left // (len(lengths) - number)
        if length > limit:
            break
        left -= length
    return replace(request, steps=tuple(replace(step, target=_cut(step.target, limit)) for step in request.steps))


def _evidence(process: ProcessRef) -> tuple[str, str, str]:
    return process.exe, process.name, process.command_line


def _cut(target: Target | None, limit: int) -> Target | None:
    if not isinstance(target, ProcessTarget):
        return target

    def cut(text: str) -> str:
        return text.encode()[:limit].decode("utf-8", "ignore")

    return replace(
        target,
        line=tuple(
            replace(each, exe=cut(each.exe), name=cut(each.name), command_line=cut(each.command_line))
            for each in target.line
        ),
    )


def check_size(value: bytes) -> None:
    """Raises ``NotARequest`` for more than ``MAX_BYTES``."""
    if len(value) > MAX_BYTES:
        raise NotARequest("oversize", f"a request has at most {MAX_BYTES} bytes, not {len(value)}")


def check_age(request: ActionRequest, now_ns: int) -> None:
    """Raises ``NotARequest`` for a request so old that its executions may be forgotten, or from too far ahead."""
    age_ns = now_ns - request.requested_at_ns
    if age_ns > MAX_AGE_NS:
        raise NotARequest("too_old", f"it was requested {age_ns // 1_000_000_000} s ago, more than 6 days")
    if age_ns < -MAX_AHEAD_NS:
        raise NotARequest("too_far_ahead", f"it was requested {-age_ns // 1_000_000_000} s from now")


def check(request: ActionRequest, topic: str) -> None:
    """Raises ``NotARequest`` unless ``request`` may be taken in from ``topic``."""
    _principal(request, SOURCES[topic])
    _bounds(request)
    match request.verb:
        case Verb.EXECUTE:
            _steps(request.steps)
        case Verb.UNDO:
            _steps(request.steps)
            _subject(request.subject)
            if len(request.steps) != 1:
                raise NotARequest("invalid_request", f"an undo has one step, not {len(request.steps)}")
        case Verb.CANCEL | Verb.APPROVE | Verb.DENY:
            _subject(request.subject)


def _principal(request: ActionRequest, kind: ActorKind) -> None:
    if request.actor.kind is not kind:
        raise NotARequest("wrong_principal", f"a request of a {request.actor.kind} on the topic of a {kind}")
    if kind is ActorKind.RULE and request.verb is not Verb.EXECUTE:
        raise NotARequest("wrong_principal", f"a rule may only execute, not {request.verb}")


def _bounds(request: ActionRequest) -> None:
    numbers = {
        "requested_at_ns": (request.requested_at_ns, 1, 1 << 62),
        "detected_at_ns": (request.detected_at_ns, 0, 1 << 62),
        "ttl_s": (request.ttl_s, 0, DAY_S),
        "undo_after_s": (request.undo_after_s, 0, LONGEST_UNDO_AFTER_S),
        "cooldown_s": (request.cooldown_s, 0, 30 * DAY_S),
        "causation.depth": (request.causation.depth, 0, 100),
    }
    for name, (value, least, most) in numbers.items():
        if not least <= value <= most:
            raise NotARequest("invalid_request", f"{name} must be {least} to {most}, not {value}")
    texts = {
        "actor.name": request.actor.name,
        "host": request.host,
        "reason": request.reason,
        "caller_id": request.caller_id,
        "cooldown_key": request.cooldown_key,
        "causation.rule": request.causation.rule,
        "causation.event_id": request.causation.event_id,
    }
    for name, text in texts.items():
        if len(text) > MAX_TEXT:
            raise NotARequest("invalid_request", f"{name} has {len(text)} characters; at most {MAX_TEXT}")
    if len(request.echo) > MAX_PARAMETERS:
        raise NotARequest("invalid_request", f"{len(request.echo)} parameters to echo; at most {MAX_PARAMETERS}")
    if not request.actor.name:
        raise NotARequest("invalid_request", "actor.name is empty")


def _steps(steps: tuple[Step, ...]) -> None:
    if not 1 <= len(steps) <= MAX_STEPS:
        raise NotARequest("invalid_request", f"a request has 1 to {MAX_STEPS} steps, not {len(steps)}")
    ids = [step.execution_id for step in steps]
    if len(set(ids)) < len(ids):
        raise NotARequest("invalid_request", "two steps have the same execution id")
    for step in steps:
        if not is_execution_id(step.execution_id):
            raise NotARequest("invalid_request", f"{step.execution_id[:64]!r} is no execution id (UUIDv7)")
        if _ACTION.fullmatch(step.action) is None:
            raise NotARequest("invalid_request", f"{step.action[:64]!r} is no name of an action")
        if len(step.parameters) > MAX_PARAMETERS:
            raise NotARequest("invalid_request", f"{len(step.parameters)} parameters; at most {MAX_PARAMETERS}")


def _subject(subject: ExecutionId) -> None:
    if not is_execution_id(subject):
        raise NotARequest("invalid_request", f"subject {subject[:64]!r} is no execution id (UUIDv7)")
