"""What all actions on processes share: their description, how a process is bound and held again, and their reports.

Subclassed by the actions; calls ``find_process``; knows the domain and ports only. A claim names exactly one process,
by what no process can change, and every effect goes through a pidfd, which always means that process. Nothing here ever
signals a pid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from workers.actions.base import Action, AnyAction, FieldSpec, Job, Lane, Permission, parameter
from workers.actions.base.find_process import Found, Gone, find, named_process, refuse_protected
from workers.domain.event import MAX_ANCESTORS, ProcessRef
from workers.domain.outcome import NEVER_SEEN, Outcome, PostCondition, Report
from workers.domain.target import ProcessTarget
from workers.domain.targets.process import ProcessIdentity
from workers.host.ports import Host
from workers.host.processes.ports import HeldProcess

FACTS: Final = (
    FieldSpec("pid", "integer", "The process id on this host"),
    FieldSpec("started_at", "integer", "When it started, nanoseconds since the epoch"),
    FieldSpec("exe", "string", "Its executable"),
    FieldSpec("name", "string", "Its name, which it sets itself"),
    FieldSpec("command_line", "string", "Its command line, secrets masked"),
    FieldSpec("user_id", "integer", "Its real user id"),
    FieldSpec("container_init", "boolean", "It was a container's init: the container ends, and may be restarted"),
    FieldSpec("identity", "string", "How it was identified: start_time, pid_before_event or pid_at_intake"),
)

LONGEST: Final = 512
"""Characters of a text output: the limit of the compatible API."""

_EXAMPLE: Final = ProcessTarget(
    line=(
        ProcessRef(
            pid=4711,
            started_at_ns=1_783_198_004_170_000_000,
            exe="/tmp/xmrig",
            name="xmrig",
            command_line="/tmp/xmrig -o pool.example:3333",
        ),
        ProcessRef(pid=4700, exe="/usr/bin/bash", name="bash"),
    ),
    observed_at_ns=1_783_198_004_180_672_852,
)

EXAMPLE: Final[Mapping[str, Any]] = {"target": _EXAMPLE, "parameters": {"ancestor": 0}}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneProcess:
    """The claim where the process had ended before it could be bound."""

    pid: int
    present: bool = False
    gone: str
    """Why it is known not to be there."""
    seen: bool = True
    """Whether anything says that it ever was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessClaim:
    """The claim on one process. ``boot_id``, ``start_ticks`` and ``serial`` identify it; the rest is evidence."""

    pid: int
    present: bool = True
    boot_id: str
    start_ticks: int
    serial: int
    started_at: int
    exe: str
    name: str
    command_line: str
    user_id: int
    cgroup: str
    container_init: bool
    identity: str

    def __str__(self) -> str:
        """As messages name it."""
        what = self.exe or self.name
        return f"process {self.pid} ({what})" if what else f"process {self.pid}"

    @property
    def key(self) -> str:
        """Names this process, and no other one ever."""
        return f"{self.boot_id}/{self.pid}/{self.start_ticks}/{self.serial}"

    def hold(self, host: Host) -> HeldProcess | None:
        """Hold the claimed process again; None when it has ended, also where another process has its pid now."""
        return host.processes.reopen(self.pid, ProcessIdentity(self.boot_id, self.start_ticks, self.serial))


@dataclass(frozen=True, slots=True)
class AncestorParameters:
    """Which process of the event's line."""

    ancestor: int = parameter(
        "Which process of the event's line: 0 its own, 1 its parent, 2 its grandparent",
        default=0,
        maximum=MAX_ANCESTORS - 1,
    )


P = TypeVar("P")
C = TypeVar("C")
A = TypeVar("A", bound=AncestorParameters)
K = TypeVar("K", bound=ProcessClaim)


class ProcessAction(Action[P, C]):
    """Acts on one process."""

    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    local = True
    target = ProcessTarget
    outputs: ClassVar[tuple[FieldSpec, ...]] = FACTS
    privileges = ("KILL", "SYS_PTRACE")
    mounts = ()
    ttl_s = 300
    timeout_s = 60
    example: ClassVar[Mapping[str, Any]] = {"target": _EXAMPLE, "parameters": {}}
    post_condition: ClassVar[str]
    """Its name."""

    def no_action(self, claim: C, reason: str, message: str, why: str) -> Report:
        """The report where the wanted state was there already."""
        return self.report(
            Outcome.NO_ACTION,
            reason,
            message,
            outputs=self.outputs_of(claim),
            post_condition=PostCondition(self.post_condition, holds=True, detail=why),
        )


class EventProcessAction(ProcessAction[A, K | GoneProcess], Generic[A, K]):
    """Acts on the process that an event or a person names, or on an ancestor of it that the event names too."""

    example: ClassVar[Mapping[str, Any]] = EXAMPLE
    verb: ClassVar[str]
    """``kill``."""
    participle: ClassVar[str]
    """``killed``."""

    def serial_key(self, job: Job[A]) -> str:
        """One at a time for each pid, also where several events name it."""
        line = job.target.line if isinstance(job.target, ProcessTarget) else ()
        return f"process:{line[job.parameters.ancestor].pid if job.parameters.ancestor < len(line) else 0}"

    def admit(self, job: Job[A], host: Host) -> None:
        """Refuse what can be refused without reading the process; ``bind`` reads it once, and refuses by identity and
        protection."""
        named_process(job.command, job.parameters.ancestor)

    def bind(self, job: Job[A], host: Host) -> K | GoneProcess:
        """The process that the command names, if it is still there."""
        found = find(job.command, job.parameters.ancestor, host)
        if isinstance(found, Gone):
            return gone_process(job, found)
        try:
            refuse_protected(found.handle.facts, host)
            return self.claim_on(job, found, host)
        finally:
            found.handle.close()

    def claim_on(self, job: Job[A], found: Found, host: Host) -> K:
        """The claim on the process as it is now, while it is held."""
        raise NotImplementedError

    def dry_run_report(self, job: Job[A], claim: K | GoneProcess, host: Host) -> Report:
        """What would be done."""
        message = (
            f"would do nothing: {claim.gone}"
            if isinstance(claim, GoneProcess)
            else f"would {self.verb} {claim}; nothing was touched"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def gone(self, claim: K | GoneProcess, why: str = "") -> Report:
        """The report of one that has ended by other means; ``why`` unless the claim has it."""
        if isinstance(claim, GoneProcess) and not claim.seen:
            return never_seen(self, claim)
        why = claim.gone if isinstance(claim, GoneProcess) else why
        message = f"process {claim.pid} was not {self.participle} by this command: {why}"
        return self.no_action(claim, "target_gone", message, why)


def never_seen(action: AnyAction, claim: GoneProcess) -> Report:
    """The report of a pid that may be a mistake: nothing was checked but that nothing has it."""
    message = f"there is no process {claim.pid}: {claim.gone}"
    return action.report(Outcome.NO_ACTION, NEVER_SEEN, message, outputs=action.outputs_of(claim))


def gone_process(job: Job[A], gone: Gone) -> GoneProcess:
    """The claim on one that has ended."""
    _, ref = named_process(job.command, job.parameters.ancestor)
    return GoneProcess(pid=ref.pid, gone=gone.why, seen=gone.seen)


def claim_on_process(found: Found) -> ProcessClaim:
    """The claim on a process that was found."""
    facts = found.handle.facts
    return ProcessClaim(
        pid=facts.pid,
        boot_id=facts.boot_id,
        start_ticks=facts.start_ticks,
        serial=facts.serial,
        started_at=facts.started_at_ns,
        exe=short(facts.exe),
        name=facts.name,
        command_line=short(facts.command_line),
        user_id=facts.uid,
        cgroup=short(facts.cgroup),
        container_init=facts.namespace_pid == 1 and facts.pid != 1,
        identity=found.binding.value,
    )


def short(text: str) -> str:
    """As much of a text as an output holds."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
