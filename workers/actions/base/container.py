"""What all actions on containers share: how they are described, which container is meant, and the words for its fate.

Subclassed by ``ending`` and by the actions themselves; knows core and ports only. A target is a run of a container
(``domain.targets.container``), found once, at the claim; an undo takes it from this node's own journal.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, NoReturn, TypeVar

from workers.actions.base import Action, FieldSpec, Job, Lane, Permission
from workers.domain.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.target import ContainerTarget
from workers.domain.targets.container import (
    ALIVE,
    ContainerFacts,
    bound,
    called,
    choose,
    protection,
    ref_of,
    will_return,
)
from workers.host.containers.ports import Containers, Refusal
from workers.host.ports import Host

P = TypeVar("P")

FACTS: Final = (
    FieldSpec("container_id", "string", "Its whole id"),
    FieldSpec("name", "string", "What it is called"),
    FieldSpec("image", "string", "The image it was made from"),
    FieldSpec("runtime", "string", "The socket of the runtime that has it; kernel:… where none was asked"),
    FieldSpec(
        "started_at",
        "integer",
        "When the run that was meant started, nanoseconds since the epoch; 0 where nobody could tell",
    ),
    FieldSpec("pid", "integer", "Its init on this host"),
    FieldSpec("state", "string", "What it did before"),
    FieldSpec("restart_policy", "string", "Its restart policy before"),
    FieldSpec("restart_maximum", "integer", "How often that restarts it at most; 0 is no limit"),
    FieldSpec("orchestrator", "string", "Who else may bring it back: kubernetes, swarm, compose …; empty for nobody"),
)
_PROMISED: Final = frozenset(spec.name for spec in FACTS)


class ContainerAction(Action[P]):
    """Acts on one run of one container."""

    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = ContainerTarget
    outputs: ClassVar[tuple[FieldSpec, ...]] = FACTS
    privileges = ("KILL", "SYS_PTRACE")
    mounts = ("/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock", "/sys/fs/cgroup")
    needs_runtime: ClassVar[bool] = False
    """Whether it cannot do with the kernel alone."""
    ttl_s = 300
    timeout_s = 60
    example: ClassVar[Mapping[str, Any]] = {
        "target": ContainerTarget("4a7c0de5f1e1", observed_at_ns=1_783_198_004_180_672_852),
        "parameters": {},
    }

    def admit(self, job: Job[P], host: Host) -> None:
        """Refuse what needs no look at the container; ``bind`` looks, and refuses by identity and protection."""
        runtimes(host)
        if not isinstance(job.target, ContainerTarget):
            raise CommandRejected(f"{self.name} needs a container as its target", code="invalid_target")
        if self.undo_only and not job.command.undo_of:
            raise CommandRejected(f"{self.name} runs only as an undo", code="undo_only")

    def bind(self, job: Job[P], host: Host) -> Values:
        """The run that was meant."""
        return bound(self.meant(job, host))

    def meant(self, job: Job[P], host: Host) -> ContainerFacts:
        """The container that the command means, and may touch.

        Raises:
            CommandRejected, TransientFailure: as ``choose`` and ``Containers.find``; protected ones.
        """
        target, containers = job.target, runtimes(host)
        assert isinstance(target, ContainerTarget)
        found = containers.find(target.container_id)
        now_ns = host.clock.now_ns()
        facts = choose(found, target.container_id, observed_at_ns=target.observed_at_ns, now_ns=now_ns)
        reason = protection(facts, own_ids=containers.own_ids(), own_line=host.processes.own_line())
        if reason is not None:
            raise CommandRejected(
                f"container {facts.ref.id[:12]} is protected on this node: {reason}", code="protected_target"
            )
        if facts.unserved and self.needs_runtime:
            self._without_runtime(facts)
        return facts

    def _without_runtime(self, facts: ContainerFacts) -> NoReturn:
        why = f"{self.name} needs the runtime of container {facts.ref.id[:12]}, which was not asked: {facts.unserved}"
        if facts.unheard:
            raise TransientFailure(why)
        raise CommandRejected(f"{why}; kill_container and pause_container work without", code="runtime_unknown")

    def undone(self, job: Job[P], host: Host) -> ContainerFacts:
        """What an undo is about, as it is now.

        Raises:
            CommandRejected: the journal knows none, or the container is gone.
            TransientFailure: its runtime does not answer.
        """
        if "container_id" not in job.undoes:
            raise CommandRejected("this node's journal knows no container to give back", code="nothing_to_revert")
        facts = runtimes(host).inspect(ref_of(job.undoes))
        if facts is None:
            raise CommandRejected(f"{called(job.undoes)} was removed since", code="container_gone")
        return facts

    def alive_at_claim(self, claim: Values) -> bool:
        """Whether there was anything to do."""
        return claim["state"] in ALIVE

    def nothing(self, claim: Values, reason: str, why: str) -> Report:
        """The report of what is so already."""
        return self.report(
            Outcome.NO_ACTION,
            reason,
            f"{called(claim)}: {why}",
            outputs=outputs_of(claim),
            post_condition=PostCondition("as_wanted", holds=True, detail=why),
        )

    def gone(self, claim: Values) -> Report:
        """The report of one that was removed before anything was done to it."""
        return self.nothing(claim, "target_gone", "it was removed meanwhile")

    def superseded(self, claim: Values, facts: ContainerFacts) -> Report:
        """The report of a run that is another one now."""
        why = f"it was started again at {facts.started_at_ns} ns; the present run was not asked for, and is untouched"
        return self.report(Outcome.FAILED, "superseded", f"{called(claim)}: {why}", outputs=outputs_of(claim))

    def silent(self, claim: Values, why: str) -> Report:
        """The report of a runtime that does not say what became of it."""
        message = f"{called(claim)}: nobody knows yet: {why}"
        return self.report(Outcome.UNKNOWN, "runtime_silent", message, outputs=outputs_of(claim))


MAY_ACT_YET: Final = "its runtime did not answer a moment ago, and may act on it yet"


def runtimes(host: Host) -> Containers:
    """The port.

    Raises:
        CommandRejected: this node asks no runtime.
    """
    if host.containers is None:
        raise CommandRejected("this node asks no container runtime", code="no_runtime")
    return host.containers


def outputs_of(claim: Values) -> dict[str, str | int | bool]:
    """What every one of these actions promises, out of the claim."""
    return {name: value for name, value in claim.items() if name in _PROMISED}


def returns(claim: Values) -> str:
    """Who brings it back when it has ended, as the end of a sentence."""
    unserved = str(claim.get("unserved", ""))
    who = will_return(str(claim["orchestrator"])) or (unserved and f"whoever runs it may bring it back ({unserved})")
    return f"; {who}" if who else ""


def refusal(refused: Refusal, claim: Values) -> TransientFailure | PermanentFailure:
    """The error that a refused call amounts to."""
    kind = TransientFailure if refused.may_pass else PermanentFailure
    return kind(f"{called(claim)}: its runtime refused: {refused.message}", code="runtime_refused")
