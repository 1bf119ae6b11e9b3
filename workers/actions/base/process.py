"""What all actions on processes share: how they are described, how one is bound and taken hold of again, and the words
for its fate.

Subclassed by the actions; calls ``sightings``; knows core and ports only. A claim names exactly one process, by what no
process can change, and every effect goes through a pidfd that can become no other. Nothing here ever signals a pid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from workers.actions.base import Action, FieldSpec, Job, Lane, Permission, parameter
from workers.actions.base import find_process as seen
from workers.domain.event import MAX_ANCESTORS, ProcessRef
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.target import ProcessTarget
from workers.domain.targets.process import ProcessFacts, ProcessIdentity
from workers.domain.targets.process_identity import Binding
from workers.host.ports import Host
from workers.host.processes.ports import HeldProcess, ProcessHandle

P = TypeVar("P")

FACTS: Final = (
    FieldSpec("pid", "integer", "The process id on this host"),
    FieldSpec("started_at", "integer", "When it started, nanoseconds since the epoch"),
    FieldSpec("exe", "string", "Its executable"),
    FieldSpec("name", "string", "What it called itself"),
    FieldSpec("command_line", "string", "Its command line, secrets masked"),
    FieldSpec("user_id", "integer", "Whose it was"),
    FieldSpec("container_init", "boolean", "It was a container's init: the container ends, and may be restarted"),
    FieldSpec("identity", "string", "By what it was recognised: start_time, pid_before_event or pid_at_intake"),
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


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which process of the event's line."""

    ancestor: int = parameter(
        "Which process of the event's line: 0 its own, 1 its parent, 2 its grandparent",
        default=0,
        maximum=MAX_ANCESTORS - 1,
    )


C = TypeVar("C", bound=Chosen)


class ProcessAction(Action[P]):
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
    wanted: ClassVar[str]
    """The post-condition's name."""

    def nothing(self, claim: Values, reason: str, message: str, why: str) -> Report:
        """The report of what is so already."""
        return self.report(
            Outcome.NO_ACTION,
            reason,
            message,
            outputs=self.outputs_of(claim),
            post_condition=PostCondition(self.wanted, holds=True, detail=why),
        )

    def outputs_of(self, claim: Values) -> dict[str, str | int | bool]:
        """What the catalogue promises, out of the claim; of a process that was gone only its pid is known."""
        return {spec.name: claim[spec.name] for spec in self.outputs if spec.name in claim}


class SightedAction(ProcessAction[C]):
    """Acts on the process that a sighting means, or on an ancestor in its line."""

    example: ClassVar[Mapping[str, Any]] = {"target": _EXAMPLE, "parameters": {"ancestor": 0}}
    done: ClassVar[str]
    """``killed``."""
    do: ClassVar[str]
    """``kill``."""

    def serial_key(self, job: Job[C]) -> str:
        """One at a time for each pid, whichever event named it."""
        line = job.target.line if isinstance(job.target, ProcessTarget) else ()
        return f"process:{line[job.parameters.ancestor].pid if job.parameters.ancestor < len(line) else 0}"

    def admit(self, job: Job[C], host: Host) -> None:
        """Refuse what needs no look at the process; ``bind`` looks once, and refuses by identity and protection."""
        seen.meant(job.command, job.parameters.ancestor)

    def bind(self, job: Job[C], host: Host) -> Values:
        """The process that was meant, if it is still there: ``present`` says so, and ``gone`` why not."""
        found = seen.find(job.command, job.parameters.ancestor, host)
        if isinstance(found, seen.Gone):
            _, ref = seen.meant(job.command, job.parameters.ancestor)
            return {"pid": ref.pid, "present": False, "gone": found.why}
        try:
            seen.refuse_protected(found.handle.facts, host)
            return bound(found.handle.facts, found.binding) | self.before(job, found.handle, host)
        finally:
            found.handle.close()

    def before(self, job: Job[C], handle: ProcessHandle, host: Host) -> dict[str, str | int | bool]:
        """What more the claim says of the process as it is now, while it is held."""
        del job, handle, host
        return {}

    def dry_run_report(self, job: Job[C], claim: Values, host: Host) -> Report:
        """What would be done."""
        message = (
            f"would {self.do} {called(claim)}; nothing was touched"
            if claim["present"]
            else f"would do nothing: {claim['gone']}"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def gone(self, claim: Values, why: str = "") -> Report:
        """The report of one that has ended without us; ``why`` unless the claim says so."""
        why = why or str(claim["gone"])
        return self.nothing(
            claim, "target_gone", f"process {claim['pid']} was not {self.done} by this command: {why}", why
        )


def bound(facts: ProcessFacts, binding: Binding) -> dict[str, str | int | bool]:
    """The claim on one process."""
    return {
        "pid": facts.pid,
        "present": True,
        "boot_id": facts.boot_id,
        "start_ticks": facts.start_ticks,
        "serial": facts.serial,
        "started_at": facts.started_at_ns,
        "exe": short(facts.exe),
        "name": facts.name,
        "command_line": short(facts.command_line),
        "user_id": facts.uid,
        "cgroup": short(facts.cgroup),
        "container_init": facts.namespace_pid == 1 and facts.pid != 1,
        "identity": binding.value,
    }


def reopen(claim: Values, host: Host) -> HeldProcess | None:
    """Hold the claimed process again; None when it has ended, whoever has its pid now."""
    claimed = ProcessIdentity(str(claim["boot_id"]), int(claim["start_ticks"]), int(claim["serial"]))
    return host.processes.reopen(int(claim["pid"]), claimed)


def called(claim: Values) -> str:
    """What people read of it."""
    what = claim["exe"] or claim["name"]
    return f"process {claim['pid']} ({what})" if what else f"process {claim['pid']}"


def short(text: str) -> str:
    """As much of a text as an output holds."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
