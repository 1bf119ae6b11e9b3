"""What both actions on networks share: which network a command names, how it is opened, and their reports.

Subclassed by the actions; knows the domain and ports only. A container's network is that of one run of it, found once,
at the claim; an undo takes it from this node's own journal. The rules of an isolation name the execution that made it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from workers.actions.base import Action, FieldSpec, Job, Lane, Permission
from workers.actions.base.container import ContainerAction, RunClaim, runtimes
from workers.domain.errors import CommandRejected
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.target import NetworkTarget
from workers.domain.targets.container import ContainerFacts, choose, protection
from workers.host.network.ports import Network, NetworkNamespace
from workers.host.ports import Host

P = TypeVar("P")

MOST_AHEAD_NS: Final = 30_000_000_000
"""How far the detector's clock may be ahead of this machine's: the skew that the whole of Douse tolerates."""

FACTS: Final = (
    FieldSpec("isolation", "string", "The execution that isolated it, as it stands in the rules"),
    FieldSpec("scope", "string", "host or container"),
    FieldSpec("container_id", "string", "The container's whole id; empty for the host's network"),
    FieldSpec("name", "string", "The container's name"),
    FieldSpec("runtime", "string", "The socket of the runtime that has it"),
    FieldSpec("started_at", "integer", "When the container's run started, nanoseconds since the epoch"),
    FieldSpec("pid", "integer", "Its init on this host"),
    FieldSpec("namespace", "integer", "The network namespace's inode; 0 where there was none"),
    FieldSpec("interfaces", "string", "Its interfaces but loopback"),
    FieldSpec("allowed", "string", "What stays reachable: purpose, protocol, network and port (0: everything)"),
)


@dataclass(frozen=True, slots=True)
class Gone:
    """The claimed network does not exist any more."""

    reason: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkClaim(RunClaim):
    """The claim on the network of this host, or of one run of a container."""

    isolation: str
    """The execution that isolates it."""
    scope: str
    namespace: int
    interfaces: str
    allowed: str

    def __str__(self) -> str:
        """As messages name it."""
        return "the host's network" if self.of_host else f"the network of {super(NetworkClaim, self).__str__()}"

    @property
    def of_host(self) -> bool:
        """Whether it is this host's own."""
        return self.scope == "host"


C = TypeVar("C", bound=NetworkClaim)


class NetworkAction(Action[P, C]):
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
        """Refuse what can be refused without reading the network; ``bind`` reads it."""
        unfit = networks(host).unfit()
        if unfit:
            raise CommandRejected(unfit, code="no_nftables")
        if self.undo_only and not job.command.undo_of:
            raise CommandRejected(f"{self.name} runs only as an undo", code="undo_only")
        if not self.undo_only and not isinstance(job.target, NetworkTarget):
            raise CommandRejected(f"{self.name} needs a network as its target", code="invalid_target")

    def container_of(self, target: NetworkTarget, host: Host) -> ContainerFacts | None:
        """The container whose network the target names; None for the host's.

        Raises:
            CommandRejected: unknown, ambiguous, protected, or not the one that was observed.
            TransientFailure: a runtime does not answer.
        """
        if not target.container_id:
            _check_same_boot(target.observed_at_ns, host)
            return None
        return _named_container(target, host)

    def open(self, claim: NetworkClaim, host: Host, *, any_run: bool = False) -> NetworkNamespace | Gone:
        """The network of a claim; the caller closes it. ``any_run`` takes a later run of its container too.

        Raises:
            CommandRejected: this worker cannot reach it.
            TransientFailure: its runtime does not answer.
        """
        if claim.of_host:
            return networks(host).host()
        found = self._run(claim, host, any_run=any_run)
        if isinstance(found, Gone):
            return found
        namespace = networks(host).of_process(found.pid)
        if namespace is None:
            return Gone("not_running", "its run ended just now")
        again = self._run(claim, host, any_run=any_run)  # only now is it sure that the pid was the container's
        if isinstance(again, Gone) or (again.pid, again.started_at_ns) != (found.pid, found.started_at_ns):
            namespace.close()
            return again if isinstance(again, Gone) else Gone("superseded", "it was started again just now")
        return namespace

    def gone(self, claim: C, gone: Gone) -> Report:
        """The report of a network that does not exist any more."""
        failed = gone.reason == "superseded"
        return self.report(
            Outcome.FAILED if failed else Outcome.NO_ACTION,
            gone.reason,
            f"{claim}: {gone.why}",
            outputs=self.outputs_of(claim),
            post_condition=None if failed else PostCondition("as_wanted", holds=True, detail=gone.why),
        )

    def no_action(self, claim: C, reason: str, why: str) -> Report:
        """The report where the wanted state was there already."""
        return self.gone(claim, Gone(reason, why))

    def unreachable(self, claim: C, why: str) -> Report:
        """The report of a network that cannot be read now."""
        message = f"{claim}: its state is not known yet: {why}"
        return self.report(Outcome.UNKNOWN, "runtime_silent", message, outputs=self.outputs_of(claim))

    def _run(self, claim: NetworkClaim, host: Host, *, any_run: bool) -> ContainerFacts | Gone:
        facts = runtimes(host).open(claim.ref).inspect()
        if facts is None:
            return Gone("target_gone", "the container was removed")
        if not any_run and not claim.is_run_of(facts):
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


def _check_same_boot(observed_at_ns: int, host: Host) -> None:
    """A host that has rebooted is not the one that was observed."""
    if observed_at_ns <= 0:
        raise CommandRejected(
            "the host's network is named without the time of its observation", code="identity_missing"
        )
    if observed_at_ns - host.clock.now_ns() > MOST_AHEAD_NS:
        raise CommandRejected("the host was observed in its own future; set the clocks right", code="identity_unclear")
    if observed_at_ns < host.processes.boot_time_ns():
        raise CommandRejected(
            "this host rebooted after it was observed; send a new request if the host as it is now is meant",
            code="started_after",
        )


def _named_container(target: NetworkTarget, host: Host) -> ContainerFacts:
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
