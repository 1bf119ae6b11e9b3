"""What killing and stopping a container share: the order of steps that keeps it ended, and how its end is proved.

Subclassed by two actions. The restart policy goes first, and the run is looked at again after it: from then on nothing
but a person or an orchestrator can put another run in its place (SAFETY D14). What happened is told by the state that
the runtime shows, never by its answers. Must never end a run that the claim does not name.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeVar

from workers.action import Action, Begun, Done, FieldSpec, Job, Lane, NotDone, Pending, Permission, Probe
from workers.core.container import (
    ALIVE,
    ContainerFacts,
    RestartPolicy,
    bound,
    called,
    choose,
    policy_of,
    protection,
    ref_of,
    same_run,
    will_return,
)
from workers.core.errors import CommandRejected, PermanentFailure, TransientFailure
from workers.core.outcome import Outcome, PostCondition, Report, Values
from workers.core.target import ContainerTarget
from workers.ports import Containers, Host, Refusal

P = TypeVar("P")

WAIT_S: Final = 5.0
"""How long a run that was killed may take to be over before the outcome is UNKNOWN."""

EXAMPLE: Final[Mapping[str, Any]] = {
    "target": ContainerTarget("4a7c0de5f1e1", observed_at_ns=1_783_198_004_180_672_852),
    "parameters": {},
}

OUTPUTS: Final = (
    FieldSpec("container_id", "string", "Its whole id"),
    FieldSpec("name", "string", "What it is called"),
    FieldSpec("image", "string", "The image it was made from"),
    FieldSpec("runtime", "string", "The socket of the runtime that has it"),
    FieldSpec("started_at", "integer", "When the run that was meant started, nanoseconds since the epoch"),
    FieldSpec("pid", "integer", "Its init on this host"),
    FieldSpec("state", "string", "What it did before"),
    FieldSpec("restart_policy", "string", "Its restart policy before"),
    FieldSpec("restart_maximum", "integer", "How often that restarts it at most; 0 is no limit"),
    FieldSpec("restart_disabled", "boolean", "The policy was taken away, so that it stays as it is now"),
    FieldSpec("orchestrator", "string", "Who else may bring it back: kubernetes, swarm, compose …; empty for nobody"),
)


class Ending(Action[P]):
    """Ends one run of one container, and keeps it ended."""

    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = ContainerTarget
    outputs = OUTPUTS
    privileges = ()
    mounts = ("/var/run/docker.sock", "/run/podman/podman.sock")
    ttl_s = 300
    timeout_s = 60
    example = EXAMPLE
    done: ClassVar[str]
    """``killed``."""

    @abstractmethod
    def ask(self, job: Job[P], host: Host, facts: ContainerFacts) -> Refusal | None:
        """The one call that ends it. Raises as ``Containers``."""

    def liftable(self, claim: Values) -> bool:
        """Whether an undo could lift the effect."""
        del claim
        return False

    def admit(self, job: Job[P], host: Host) -> None:
        """Refuse what needs no look at the container; ``bind`` looks, and refuses by identity and protection."""
        _meant(job, host)

    def bind(self, job: Job[P], host: Host) -> Values:
        """The run that was meant."""
        return bound(meant(job, host))

    def execute(self, job: Job[P], claim: Values, host: Host) -> Report:
        """Take its restarts away, look again, end it, and look whether it has ended."""
        containers, ref = runtimes(host), ref_of(claim)
        facts = containers.inspect(ref)
        if facts is None or not facts.alive:
            return self._nothing(claim, facts)
        if not same_run(claim, facts):
            return self._superseded(claim, facts, containers)
        kept = ""
        if facts.policy.restarts:
            refusal = containers.restrain(ref, RestartPolicy())
            kept = refusal.message if refusal is not None else ""
            host.failpoints.reach(f"{self.name}.restrained")
            facts = containers.inspect(ref)
            if facts is None or not facts.alive:
                return self._ended(claim, facts, kept)
            if not same_run(claim, facts):
                return self._superseded(claim, facts, containers)
        refused = self.ask(job, host, facts)
        host.failpoints.reach(f"{self.name}.asked")
        left_s = (job.deadline_ns - host.clock.now_ns()) / 1e9
        after = containers.await_end(
            ref, started_at_ns=facts.started_at_ns, timeout_s=max(0.0, min(WAIT_S, left_s)) if refused is None else 0.0
        )
        if after is None or not after.alive:
            return self._ended(claim, after, kept)
        if not same_run(claim, after):
            return self._back(claim, after, kept)
        if refused is not None:
            raise _refusal(refused, claim)
        return self._pending(claim, "it has not ended yet")

    def probe(self, job: Job[P], claim: Values, host: Host) -> Probe:
        """SAFETY section 4: ended or gone is done, another run is superseded, running is not done."""
        if claim["state"] not in ALIVE:
            return Done(self._nothing(claim, None))
        try:
            facts = runtimes(host).inspect(ref_of(claim))
        except TransientFailure as error:
            return Pending(self._silent(claim, error.message))
        if facts is None or (same_run(claim, facts) and not facts.alive):
            return Done(self._ended(claim, facts, cause="unproven"))
        restrained = policy_of(claim).restarts and not facts.policy.restarts
        if not same_run(claim, facts):
            return Begun() if restrained else Done(self._another_run(claim, facts))
        if facts.unsettled:
            return Pending(self._silent(claim, "its runtime did not answer a moment ago, and may act on it yet"))
        if waits := _kill_waits(facts, host):
            return Pending(self._pending(claim, waits))
        return Begun() if restrained else NotDone()

    def rehearse(self, job: Job[P], claim: Values, host: Host) -> Report:
        """What would be ended, and who would bring it back."""
        if claim["state"] not in ALIVE:
            message = f"would do nothing: {called(claim)} does not run"
        else:
            policy = policy_of(claim)
            first = f", and its restart policy {policy.name!r} disabled first" if policy.restarts else ""
            message = f"{called(claim)} would be {self.done}{first}{_returns(claim)}; nothing was touched"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=outputs_of(claim))

    def _superseded(self, claim: Values, facts: ContainerFacts, containers: Containers) -> Report:
        """Another run: what an attempt before this one took from it is given back, and nothing else is done."""
        policy = policy_of(claim)
        if policy.restarts and not facts.policy.restarts:
            refusal = containers.restrain(facts.ref, policy)
            if refusal is not None:
                raise _refusal(refusal, claim)
        return self._another_run(claim, facts)

    def _another_run(self, claim: Values, facts: ContainerFacts) -> Report:
        why = f"it was started again at {facts.started_at_ns} ns; the present run was not asked for, and is untouched"
        return self.report(Outcome.FAILED, "superseded", f"{called(claim)}: {why}", outputs=outputs_of(claim))

    def _nothing(self, claim: Values, facts: ContainerFacts | None) -> Report:
        gone = facts is None and claim["state"] in ALIVE
        why = "it was removed before it could be " + self.done if gone else "it does not run"
        return self.report(
            Outcome.NO_ACTION,
            "target_gone" if gone else "already_ended",
            f"{called(claim)}: {why}",
            outputs=outputs_of(claim),
            post_condition=PostCondition("run_over", holds=True, detail=why),
        )

    def _ended(self, claim: Values, facts: ContainerFacts | None, kept: str = "", *, cause: str = "action") -> Report:
        policy = policy_of(claim)
        disabled = policy.restarts and facts is not None and not facts.policy.restarts
        detail = "its runtime says that its run is over" if facts is not None else "its runtime has it no longer"
        notes = _returns(claim)
        if policy.restarts and facts is not None and not disabled:
            notes += f"; its restart policy {policy.name!r} stays{f' ({kept})' if kept else ''}, and may bring it back"
        liftable = facts is not None and self.liftable(claim)
        if facts is not None and self.reversible_by and not liftable:
            notes += "; no undo is offered, because its orchestrator has replaced it by then"
        return self.report(
            Outcome.COMPLETED,
            self.done,
            f"{called(claim)} was {self.done}: {detail}{notes}",
            outputs=outputs_of(claim) | {"restart_disabled": disabled},
            post_condition=PostCondition("run_over", holds=True, detail=detail),
            effect_holds=liftable,
            cause=cause,
        )

    def _back(self, claim: Values, facts: ContainerFacts, kept: str) -> Report:
        """It has ended and runs again, because its restarts could not be taken away or somebody started it."""
        why = f"it was started again at {facts.started_at_ns} ns{f', since {kept}' if kept else ''}"
        return self.report(
            Outcome.PARTIAL,
            "started_again",
            f"{called(claim)} was {self.done}, but {why}{_returns(claim)}",
            outputs=outputs_of(claim) | {"restart_disabled": not facts.policy.restarts and policy_of(claim).restarts},
            post_condition=PostCondition("run_over", holds=False, detail=why),
        )

    def _pending(self, claim: Values, waits: str) -> Report:
        return self.report(
            Outcome.UNKNOWN,
            "kill_pending",
            f"{called(claim)} is being ended, but {waits}",
            outputs=outputs_of(claim),
            post_condition=PostCondition("run_over", holds=False, detail=waits),
        )

    def _silent(self, claim: Values, why: str) -> Report:
        message = f"{called(claim)}: nobody knows yet: {why}"
        return self.report(Outcome.UNKNOWN, "runtime_silent", message, outputs=outputs_of(claim))


def meant(job: Job[Any], host: Host) -> ContainerFacts:
    """The container that the command means, and may touch.

    Raises:
        CommandRejected, TransientFailure: as ``core.container.choose`` and ``Containers.find``, and protected ones.
    """
    target, containers = _meant(job, host)
    found = containers.find(target.container_id)
    now_ns = host.clock.now_ns()
    facts = choose(found, target.container_id, observed_at_ns=target.observed_at_ns, now_ns=now_ns)
    reason = protection(facts, own_ids=containers.own_ids(), own_line=host.processes.own_line())
    if reason is not None:
        raise CommandRejected(
            f"container {facts.ref.id[:12]} is protected on this node: {reason}", code="protected_target"
        )
    return facts


def runtimes(host: Host) -> Containers:
    """The port.

    Raises:
        CommandRejected: this node asks no runtime.
    """
    if host.containers is None:
        raise CommandRejected("this node asks no container runtime", code="no_runtime")
    return host.containers


def outputs_of(claim: Values) -> dict[str, str | int | bool]:
    """What the catalogue promises, out of the claim."""
    return {spec.name: claim[spec.name] for spec in OUTPUTS if spec.name in claim}


def _meant(job: Job[Any], host: Host) -> tuple[ContainerTarget, Containers]:
    if not isinstance(job.target, ContainerTarget):
        raise CommandRejected(f"{job.command.action} needs a container as its target", code="invalid_target")
    return job.target, runtimes(host)


def _returns(claim: Values) -> str:
    who = will_return(str(claim["orchestrator"]))
    return f"; {who}" if who else ""


def _kill_waits(facts: ContainerFacts, host: Host) -> str:
    """Why a SIGKILL that its init has already got is not taken yet; empty where none waits."""
    handle = host.processes.open(facts.pid) if facts.pid else None
    if handle is None:
        return ""
    try:
        init = handle.facts
    finally:
        handle.close()
    if init.kill_pending and init.frozen:
        return "its cgroup is frozen from outside: it dies when it is thawed"
    if init.kill_pending and init.state == "D":
        return "its init is in a call that nothing interrupts (state D): it dies when the call returns"
    return ""


def _refusal(refused: Refusal, claim: Values) -> TransientFailure | PermanentFailure:
    kind = TransientFailure if refused.may_pass else PermanentFailure
    return kind(f"{called(claim)}: its runtime refused: {refused.message}", code="runtime_refused")
