"""What all actions on containers share: how they are described, which container is meant, and the words for its fate.

Subclassed by ``base.container_end`` and by the actions; knows the domain and ports only. A target is a run of a
container (``domain.targets.container``), found once, at the claim; an undo takes it from this node's own journal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NoReturn, TypeVar

from workers.actions.base import Action, FieldSpec, Job, Lane, Permission
from workers.domain.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.target import ContainerTarget
from workers.domain.targets.container import (
    ALIVE,
    ContainerFacts,
    ContainerRef,
    RestartPolicy,
    choose,
    label_of,
    orchestrator,
    protection,
    same_run,
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
_LONGEST: Final = 256
"""Characters of a text in a claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClaim:
    """The claim on one run of a container, as far as actions on containers and on networks share it."""

    container_id: str
    runtime: str
    started_at: int
    pid: int
    name: str

    def __str__(self) -> str:
        """As messages name it."""
        return label_of(self.container_id, self.name)

    @property
    def ref(self) -> ContainerRef:
        """The container."""
        return ContainerRef(self.runtime, self.container_id)

    def is_run_of(self, facts: ContainerFacts) -> bool:
        """Whether the container's newest run is the claimed one, whatever its state is now."""
        return same_run(facts, started_at_ns=self.started_at, pid=self.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerClaim(RunClaim):
    """The claim on one run of a container, and its state before."""

    state: str
    image: str
    restart_policy: str
    restart_maximum: int
    orchestrator: str
    starts_again: bool = True
    unserved: str = ""
    unheard: bool = False
    """A runtime of the system that may have it did not answer: what restarts it is not known."""

    @property
    def policy(self) -> RestartPolicy:
        """The restart policy that it had at the claim."""
        return RestartPolicy(self.restart_policy, self.restart_maximum)

    @property
    def alive(self) -> bool:
        """Whether there was anything to do."""
        return self.state in ALIVE


def claim_on_run(facts: ContainerFacts) -> ContainerClaim:
    """The claim on a container's newest run."""
    return ContainerClaim(
        container_id=facts.ref.id,
        runtime=facts.ref.runtime,
        started_at=facts.started_at_ns,
        pid=facts.pid,
        state=facts.state.value,
        name=facts.name[:_LONGEST],
        image=facts.image[:_LONGEST],
        restart_policy=facts.policy.name,
        restart_maximum=facts.policy.maximum,
        orchestrator=orchestrator(facts.labels),
        starts_again=facts.starts_again,
        unserved=facts.unserved[:_LONGEST],
        unheard=facts.unheard and facts.owner == 0,
    )


class ContainerAction(Action[P, ContainerClaim]):
    """Acts on one run of one container."""

    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = ContainerTarget
    claims = (ContainerClaim,)
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

    def bind(self, job: Job[P], host: Host) -> ContainerClaim:
        """The run that was meant."""
        return claim_on_run(self.meant(job, host))

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

    def undone(self, job: Job[P], host: Host) -> tuple[ContainerClaim, ContainerFacts]:
        """The claim that an undo takes back, and its container as it is now.

        Raises:
            CommandRejected: the journal knows none, or the container is gone.
            TransientFailure: its runtime does not answer.
        """
        claim = job.undone_claim(ContainerClaim, missing="this node's journal knows no container to give back")
        facts = runtimes(host).open(claim.ref).inspect()
        if facts is None:
            raise CommandRejected(f"{claim} was removed since", code="container_gone")
        return claim, facts

    def nothing(self, claim: ContainerClaim, reason: str, why: str) -> Report:
        """The report of what is so already."""
        return self.report(
            Outcome.NO_ACTION,
            reason,
            f"{claim}: {why}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("as_wanted", holds=True, detail=why),
        )

    def gone(self, claim: ContainerClaim) -> Report:
        """The report of one that was removed before anything was done to it."""
        return self.nothing(claim, "target_gone", "it was removed meanwhile")

    def superseded(self, claim: ContainerClaim, facts: ContainerFacts) -> Report:
        """The report of a run that is another one now."""
        why = f"it was started again at {facts.started_at_ns} ns; the present run was not asked for, and is untouched"
        return self.report(Outcome.FAILED, "superseded", f"{claim}: {why}", outputs=self.outputs_of(claim))

    def silent(self, claim: ContainerClaim, why: str) -> Report:
        """The report of a runtime that does not say what became of it."""
        message = f"{claim}: nobody knows yet: {why}"
        return self.report(Outcome.UNKNOWN, "runtime_silent", message, outputs=self.outputs_of(claim))


MAY_ACT_YET: Final = "its runtime did not answer a moment ago, and may act on it yet"


def runtimes(host: Host) -> Containers:
    """The port.

    Raises:
        CommandRejected: this node asks no runtime.
    """
    if host.containers is None:
        raise CommandRejected("this node asks no container runtime", code="no_runtime")
    return host.containers


def returns(claim: ContainerClaim) -> str:
    """Who brings it back when it has ended, as the end of a sentence."""
    who = will_return(claim.orchestrator) or (
        claim.unserved and f"whoever runs it may bring it back ({claim.unserved})"
    )
    return f"; {who}" if who else ""


def refusal(refused: Refusal, claim: ContainerClaim) -> TransientFailure | PermanentFailure:
    """The error that a refused call amounts to."""
    kind = TransientFailure if refused.may_pass else PermanentFailure
    return kind(f"{claim}: its runtime refused: {refused.message}", code="runtime_refused", detail=refused.detail)
