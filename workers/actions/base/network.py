"""What both actions on networks share: which network is meant, how it is held, and the words for what became of it.

Subclassed by the actions themselves; knows core and ports only. A container's network is that of one run of it, found
once, at the claim; an undo takes it from this node's own journal. Whose an isolation is stands in its rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from workers.actions.base import Action, FieldSpec, Job, Lane, Permission
from workers.actions.base.container import ContainerAction, runtimes
from workers.domain.errors import CommandRejected
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.target import NetworkTarget
from workers.domain.targets.container import ContainerFacts, called, choose, protection, ref_of, same_run
from workers.host.network.ports import Network, NetworkNamespace
from workers.host.ports import Host

P = TypeVar("P")

MOST_AHEAD_NS: Final = 30_000_000_000
"""How far the clock of whoever saw it may be ahead of ours: the skew that the whole of Douse tolerates."""

FACTS: Final = (
    FieldSpec("isolation", "string", "The execution that isolated it, as it stands in the rules"),
    FieldSpec("scope", "string", "host or container"),
    FieldSpec("container_id", "string", "The container's whole id; empty for the host's network"),
    FieldSpec("name", "string", "What the container is called"),
    FieldSpec("runtime", "string", "The socket of the runtime that has it"),
    FieldSpec("started_at", "integer", "When its run that was meant started, nanoseconds since the epoch"),
    FieldSpec("pid", "integer", "Its init on this host"),
    FieldSpec("namespace", "integer", "The network namespace's inode; 0 where there was none"),
    FieldSpec("interfaces", "string", "Its interfaces but loopback"),
    FieldSpec("allowed", "string", "What stays reachable: purpose, protocol, network and port (0: everything)"),
)
PROMISED: Final = frozenset(spec.name for spec in FACTS)


@dataclass(frozen=True, slots=True)
class Gone:
    """The network that was meant is not there any more."""

    reason: str
    why: str


class NetworkAction(Action[P]):
    """Acts on the network of this host, or of one run of one container."""

    permission = Permission.CONTAINMENT
    lane = Lane.CONTAINMENT
    target = NetworkTarget
    outputs: ClassVar[tuple[FieldSpec, ...]] = FACTS
    privileges = ("NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE")
    mounts = ContainerAction.mounts
    ttl_s = 300
    timeout_s = 60
    example: ClassVar[Mapping[str, Any]] = {
        "target": NetworkTarget(observed_at_ns=1_783_198_004_180_672_852),
        "parameters": {},
    }

    def admit(self, job: Job[P], host: Host) -> None:
        """Refuse what needs no look at the network; ``bind`` looks."""
        unfit = networks(host).unfit()
        if unfit:
            raise CommandRejected(unfit, code="no_nftables")
        if self.undo_only and not job.command.undo_of:
            raise CommandRejected(f"{self.name} runs only as an undo", code="undo_only")
        if not self.undo_only and not isinstance(job.target, NetworkTarget):
            raise CommandRejected(f"{self.name} needs a network as its target", code="invalid_target")

    def where(self, target: NetworkTarget, host: Host) -> dict[str, str | int | bool]:
        """Which network is meant, as far as a claim names it.

        Raises:
            CommandRejected: unknown, ambiguous, protected, or not the one that was seen.
            TransientFailure: a runtime does not answer.
        """
        if not target.container_id:
            _this_boot(target.observed_at_ns, host)
            facts = None
        else:
            facts = _meant(target, host)
        return {
            "scope": "host" if facts is None else "container",
            "container_id": facts.ref.id if facts is not None else "",
            "name": facts.name[:256] if facts is not None else "",
            "runtime": facts.ref.runtime if facts is not None else "",
            "started_at": facts.started_at_ns if facts is not None else 0,
            "pid": facts.pid if facts is not None else 0,
        }

    def held(self, claim: Values, host: Host, *, any_run: bool = False) -> NetworkNamespace | Gone:
        """The network of a claim, held; the caller closes it. ``any_run`` takes a later run of its container too.

        Raises:
            CommandRejected: this worker cannot reach it.
            TransientFailure: its runtime does not answer.
        """
        if claim["scope"] == "host":
            return networks(host).host()
        found = self._run(claim, host, any_run=any_run)
        if isinstance(found, Gone):
            return found
        place = networks(host).of_process(found.pid)
        if place is None:
            return Gone("not_running", "its run ended just now")
        again = self._run(claim, host, any_run=any_run)  # a pid is only worth what its container says afterwards
        if isinstance(again, Gone) or (again.pid, again.started_at_ns) != (found.pid, found.started_at_ns):
            place.close()
            return again if isinstance(again, Gone) else Gone("superseded", "it was started again just now")
        return place

    def gone(self, claim: Values, gone: Gone) -> Report:
        """The report of a network that is no more."""
        failed = gone.reason == "superseded"
        return self.report(
            Outcome.FAILED if failed else Outcome.NO_ACTION,
            gone.reason,
            f"{network_of(claim)}: {gone.why}",
            outputs=facts_of(claim),
            post_condition=None if failed else PostCondition("as_wanted", holds=True, detail=gone.why),
        )

    def nothing(self, claim: Values, reason: str, why: str) -> Report:
        """The report of what is so already."""
        return self.gone(claim, Gone(reason, why))

    def silent(self, claim: Values, why: str) -> Report:
        """The report of what cannot be looked at now."""
        message = f"{network_of(claim)}: nobody knows yet: {why}"
        return self.report(Outcome.UNKNOWN, "runtime_silent", message, outputs=facts_of(claim))

    def _run(self, claim: Values, host: Host, *, any_run: bool) -> ContainerFacts | Gone:
        facts = runtimes(host).inspect(ref_of(claim))
        if facts is None:
            return Gone("target_gone", "the container was removed")
        if not any_run and not same_run(claim, facts):
            why = "it was started again since; the present run was not asked for, and is untouched"
            return Gone("superseded", why)
        return facts if facts.alive and facts.pid > 0 else Gone("not_running", "nothing of it runs")


def networks(host: Host) -> Network:
    """The port.

    Raises:
        CommandRejected: there is none here.
    """
    if host.network is None:
        raise CommandRejected("this node isolates no networks", code="no_nftables")
    return host.network


def facts_of(claim: Values) -> dict[str, str | int | bool]:
    """What both actions promise, out of the claim."""
    return {name: value for name, value in claim.items() if name in PROMISED}


def network_of(claim: Values) -> str:
    """A network for people."""
    return "the host's network" if claim["scope"] == "host" else f"the network of {called(claim)}"


def _this_boot(observed_at_ns: int, host: Host) -> None:
    """A host is the one that was seen as long as it was not started again."""
    if observed_at_ns <= 0:
        raise CommandRejected("the host's network is named without the time it was seen at", code="identity_missing")
    if observed_at_ns - host.clock.now_ns() > MOST_AHEAD_NS:
        raise CommandRejected("the host was seen in its own future; set the clocks right", code="identity_unclear")
    if observed_at_ns < host.processes.boot_time_ns():
        raise CommandRejected(
            "this host was started again after it was seen; ask for it as it is now if that is meant",
            code="started_after",
        )


def _meant(target: NetworkTarget, host: Host) -> ContainerFacts:
    containers = runtimes(host)
    facts = choose(
        containers.find(target.container_id),
        target.container_id,
        observed_at_ns=target.observed_at_ns,
        now_ns=host.clock.now_ns(),
    )
    reason = protection(facts, own_ids=containers.own_ids(), own_line=host.processes.own_line())
    if reason is not None:
        raise CommandRejected(
            f"container {facts.ref.id[:12]} is protected on this node: {reason}", code="protected_target"
        )
    return facts
