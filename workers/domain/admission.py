"""Whether a command is for this node, and whether it may start now: every decision before anything is touched.

Called by ``node.inspection`` and ``node.gate``, with the time as an argument. Pure. There are two kinds of refusal. A
command for another node becomes a dead letter and never gets a result (else a bad broker could end any execution); a
command for this node that may not run gets a REJECTED or EXPIRED result.
"""

from dataclasses import dataclass
from typing import Final

from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.ids import Incarnation, KeyId, NodeId, is_execution_id
from workers.domain.outcome import Outcome
from workers.domain.request import ActorKind
from workers.domain.target import Target
from workers.domain.trust.keyset import KeyRole, Signatory

MEMORY_NS: Final = 48 * 3600 * 1_000_000_000
"""How long after its expiry a command is remembered: twice the command topic's retention (24 h). A command that expired
earlier than that may have run and been forgotten, so it gets no result at all."""

_CLASSES: Final = ("auto", "one", "two")

MOST_AHEAD_NS: Final = 30_000_000_000
"""How far another machine's clock may be ahead of this one's before its word about the time is refused."""

ISSUED_IN_FUTURE: Final = "issued_in_future"
"""The reason of a command that is further ahead than that."""

DELEGABLE_CLASSES: Final = frozenset({"auto", "one"})
"""Approval classes for which the dispatcher's signature is enough. Class ``two`` needs the approvers' own signatures,
which this version cannot verify, so it is refused; so is any class it does not know."""


@dataclass(frozen=True, slots=True)
class Addressee:
    """The identity of this node, as commands name it."""

    node_id: NodeId
    key_id: KeyId
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class Misaddressed:
    """Genuine or not, this command is not for this node: a dead letter, never a result."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Local:
    """What this node's own catalogue and settings contain about a command's action."""

    known: bool
    switched_off_by: str = ""
    """The setting of this node that switches it off; empty while it is on."""
    takes: type[Target] | None = None
    """The kind of target the action takes."""
    undo_only: bool = False


UNKNOWN_HERE: Final = Local(known=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not start; nothing was touched."""

    outcome: Outcome
    """REJECTED or EXPIRED."""
    reason: str
    message: str


def misaddressed(command: ActionCommand, signatory: Signatory, me: Addressee, *, now_ns: int) -> Misaddressed | None:
    """Why a verified command is not for this node; None when it is."""
    if signatory.role is not KeyRole.DISPATCHER:
        return Misaddressed("wrong_role", f"signed by {signatory.owner}, a {signatory.role}, not by a dispatcher")
    if command.node_id != me.node_id:
        return Misaddressed("wrong_node", f"for node {command.node_id}")
    if command.node_key != me.key_id:
        return Misaddressed("wrong_key", f"for a node whose key is {command.node_key}; this node's key is {me.key_id}")
    if command.incarnation != me.incarnation:
        return Misaddressed(
            "wrong_incarnation", f"for incarnation {command.incarnation}; this node's is {me.incarnation}"
        )
    if not is_execution_id(command.command_id):
        return Misaddressed("bad_command_id", "the command's id is not a UUIDv7")
    if command.parameters_sha256 != parameters_digest(command.parameters):
        return Misaddressed("wrong_parameters", "the parameters do not match their digest")
    if command.expires_at_ns + MEMORY_NS < now_ns:
        return Misaddressed("too_old", "expired longer ago than this node remembers what it ran")
    return None


def judge(command: ActionCommand, local: Local, *, now_ns: int) -> Refused | None:
    """Why ``command``, which is for this node, may not start at ``now_ns``; None when it may. The node's own settings
    take precedence over the command."""
    name = command.action
    untimely = _untimely(command, now_ns)
    if untimely is not None:
        return untimely
    if command.not_before_ns > command.issued_at_ns:
        return _rejected("unsupported", "this node starts a command at once; it cannot put one off")
    if not local.known:
        return _rejected("unsupported", f"this node knows no action {name!r}")
    if local.switched_off_by:
        return _rejected("disabled", f"{name} is switched off on this node (its own settings: {local.switched_off_by})")
    if command.approval_class not in DELEGABLE_CLASSES:
        return _rejected(
            "approval_missing", f"class {command.approval_class!r} needs approvals this node can verify itself"
        )
    if command.actor.kind is ActorKind.RULE and command.causation.depth > 0:
        return _rejected("loop", "automation may act on a detection, never on what automation did")
    if not command.undo_of:
        if local.undo_only:
            return _rejected("undo_only", f"{name} runs only as the undo of another execution")
        if local.takes is None or not isinstance(command.target, local.takes):
            kind = command.target.kind if command.target is not None else "command without a target"
            return _rejected("wrong_target", f"{name} does not act on a {kind}")
    return None


def _untimely(command: ActionCommand, now_ns: int) -> Refused | None:
    ahead_ns, late_ns = command.issued_at_ns - now_ns, now_ns - command.expires_at_ns
    if ahead_ns > MOST_AHEAD_NS:
        message = f"issued {ahead_ns / 1e9:.1f} s ahead of this node's clock; one of the two clocks is wrong"
        return _rejected(ISSUED_IN_FUTURE, message)
    if late_ns > 0:
        message = f"expired {late_ns / 1e9:.1f} s before it could start; nothing was touched"
        return Refused(Outcome.EXPIRED, "expired", message)
    return None


def _rejected(reason: str, message: str) -> Refused:
    return Refused(Outcome.REJECTED, reason, message)


def is_approved_like(given: str, needed: str) -> bool:
    """Whether a command of one class may undo what one of the other did; a class that is unknown here permits and
    satisfies nothing."""
    return given in _CLASSES and needed in _CLASSES and _CLASSES.index(given) >= _CLASSES.index(needed)
