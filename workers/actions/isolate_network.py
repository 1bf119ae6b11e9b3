"""isolate_network and release_network: cut a host or a container off but for its lifelines, and open it to undo that.

Run by the node worker in the containment lane. An isolation begins as a trial that the kernel ends by itself, is
tested, and only then made to last: brokers and object store that answered before must still answer a fresh connection,
and a packet that must not leave must be refused. A failed test takes it back in the same run; a worker that dies in
between finds the trial at its next start and begins again from an open network; one that never comes back leaves a
network that is open. A release takes network and isolation from this node's own journal. Must never leave a host cut
off from its brokers, nor take away rules that another execution, or another program, made.

A container keeps nothing but the operator's list: brokers and store are the worker's, which runs elsewhere, and what
is tested there is that this worker still reaches them (the container may be the broker).
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Annotated, Final

from workers.actions.base import Begun, Done, Effect, FieldSpec, Job, NoParameters, NotDone, Pending, Probe
from workers.actions.base.claims import claim_with
from workers.actions.base.network import FACTS, Gone, NetworkAction, NetworkClaim, networks
from workers.domain.errors import CommandRejected, TransientFailure, WorkerError
from workers.domain.ids import ExecutionId
from workers.domain.outcome import Outcome, PostCondition, Report
from workers.domain.target import NetworkTarget
from workers.domain.targets.container import ContainerFacts
from workers.domain.targets.network import (
    MOST_ALLOWED,
    Barrier,
    Isolation,
    Lifeline,
    Lifelines,
    Purpose,
    allowed,
    from_text,
    to_text,
)
from workers.host.network.ports import NetworkNamespace
from workers.host.ports import Host
from workers.settings import ActionSettings, checked, setting

_TESTED: Final = frozenset({Purpose.KAFKA, Purpose.STORE})


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolateClaim(NetworkClaim):
    """The claim on a network that is to be isolated, or was."""

    own: str
    """This worker's lifelines that the test connects to."""
    found: bool
    """It was isolated already."""
    found_by: str
    """The execution that had isolated it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseClaim(NetworkClaim):
    """The claim on a network that is to be released."""

    present: bool
    """The isolation was in namespace."""


class IsolateSettings(ActionSettings):
    """A switch, and what an isolated network may reach beside what this node cannot do without."""

    allow: tuple[Annotated[str, checked(allowed)], ...] = setting((), longest=MOST_ALLOWED)
    """``CIDR`` is everything there, both ways; ``CIDR:PORT`` connections to that port; IPv6 with a port in brackets."""

    def lifelines(self) -> Lifelines:
        """The list as lifelines."""
        return tuple(each for entry in self.allow for each in allowed(entry))


class IsolateNetwork(NetworkAction[NoParameters, IsolateClaim]):
    """Isolates one network."""

    name = "isolate_network"
    summary = "Cut a host or a container off from the network, but for what the node lives by"
    drawbacks = (
        "Users of the host or container lose it; open connections are cut too.",
        "On a host its containers' traffic is cut with it; under Kubernetes a container's is its pod's.",
        "Brokers, object store, API server, DNS servers (where names need them), DHCP and loopback stay reachable.",
        "Addresses are those of this moment: a broker that moves is lost unless its network is on the allow list.",
        "Root inside may undo it, or send raw frames past it; the node reports changed rules.",
    )
    parameters = NoParameters
    claims = (IsolateClaim,)
    settings = IsolateSettings
    failpoints = (
        "isolate_network.begun",
        "isolate_network.tested",
        "isolate_network.kept",
        "isolate_network.taken_back",
    )
    """Right after the trial began, after its test, after it was made to last, after it was taken back."""
    reversible_by = "release_network"
    outputs = (*FACTS, FieldSpec("ruleset_sha256", "string", "Of the rules as the kernel lists them"))

    def bind(self, job: Job[NoParameters], host: Host) -> IsolateClaim:
        """Which network, whether it can be isolated at all, what is there already, and what will stay reachable."""
        assert isinstance(job.target, NetworkTarget)
        claim = _claim_on(job.command.command_id, self.container_of(job.target, host))
        opened = self.open(claim, host)
        if isinstance(opened, Gone):
            return claim
        with closing(opened) as namespace:
            _refuse_bypassed(namespace, claim)
            found = namespace.barrier()
            claim = replace(claim, namespace=namespace.namespace, interfaces=" ".join(namespace.interfaces()))
        if found is not None and not found.trial:
            return replace(claim, found=True, found_by=found.made_by)
        own, operators = networks(host).lifelines(), networks(host).operators()
        allowed = (*own, *operators) if claim.of_host else operators
        return replace(claim, own=to_text(_tested(own)), allowed=to_text(allowed))

    def execute(self, job: Job[NoParameters], claim: IsolateClaim, host: Host) -> Report:
        """Try it, test it, keep it or take it back."""
        if claim.found:
            return self._already(claim, claim.found_by)
        opened = self.open(claim, host) if claim.namespace else _NOT_RUNNING
        if isinstance(opened, Gone):
            return self.gone(claim, opened)
        with closing(opened) as namespace:
            if namespace.namespace != claim.namespace:
                return self.gone(claim, Gone("superseded", "it is in another network namespace now"))
            found = namespace.barrier()
            if found is None or (found.trial and found.made_by == claim.isolation):
                return self._isolate(claim, host, namespace, found)
            if found.made_by == claim.isolation:
                return self._isolated(claim, found)
            return self._already(claim, found.made_by)

    def probe(self, job: Job[NoParameters], claim: IsolateClaim, host: Host) -> Probe:
        """This execution's lasting rules are done; its trial was never tested, and is begun again."""
        if claim.found:
            return Done(self._already(claim, claim.found_by))
        try:
            opened = self.open(claim, host) if claim.namespace else _NOT_RUNNING
        except (TransientFailure, CommandRejected) as error:
            return Pending(self.unreachable(claim, error.message))
        if isinstance(opened, Gone):
            return Done(self.gone(claim, opened))
        with closing(opened) as namespace:
            found = namespace.barrier()
        if found is None:
            return NotDone()
        if found.made_by != claim.isolation:
            return Done(self._already(claim, found.made_by))
        return Begun() if found.trial else Done(self._isolated(claim, found, cause="unproven"))

    def conclude(self, job: Job[NoParameters], claim: IsolateClaim, host: Host) -> Report:
        """The trial is taken back; it would end by itself."""
        opened = self.open(claim, host)
        if isinstance(opened, Gone):
            return self.gone(claim, opened)
        with closing(opened) as namespace:
            found = namespace.barrier()
            if found is not None and not found.trial and found.made_by == claim.isolation:
                return self._isolated(claim, found)
            if found is not None and found.made_by == claim.isolation:
                namespace.end(found)
        message = f"{claim} is open as before: the worker died again and again while it tried to isolate it"
        return self.report(Outcome.FAILED, "poison_action", message, outputs=self.outputs_of(claim))

    def dry_run_report(self, job: Job[NoParameters], claim: IsolateClaim, host: Host) -> Report:
        """What would be cut off, and what would not."""
        if claim.found:
            message = f"would do nothing: {claim} is isolated already, by {claim.found_by or 'another program'}"
        elif not claim.namespace:
            message = f"would do nothing: {claim} does not run"
        else:
            message = f"{claim} would be cut off but for: {claim.allowed or 'nothing'}"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def holds(self, claim: IsolateClaim) -> str:
        """The network namespace."""
        return f"{claim.scope}/{claim.container_id}/{claim.namespace}" if claim.namespace else ""

    def lost(self, effect: Effect[IsolateClaim], host: Host) -> str:
        """Its rules are not there any more. Rules that were only changed are not lost: as long as a release has
        something to take away, an isolation must never be reported as lost, or it could not be released."""
        opened = self.open(effect.claim, host, any_run=True)
        if isinstance(opened, Gone):
            return opened.why
        with closing(opened) as namespace:
            found = namespace.barrier()
        if found is None:
            return "its rules are gone: they were flushed, or it was started again"
        if found.made_by == effect.claim.isolation:
            return ""
        return f"its rules are those of {found.made_by or 'another program'} now"

    def weakened(self, effect: Effect[IsolateClaim], host: Host) -> str:
        """The rules were changed, or something bypasses them."""
        claim = effect.claim
        opened = self.open(claim, host, any_run=True)
        if isinstance(opened, Gone):
            return ""
        with closing(opened) as namespace:
            found, bypass = namespace.barrier(), namespace.bypass()
            missing = set(claim.interfaces.split()) - set(namespace.interfaces())
        if found is not None and found.sha256 != effect.outputs.get("ruleset_sha256"):
            return "its rules were changed by another program"
        if bypass:
            return f"{bypass} carries packets round it"
        if missing and not claim.of_host:
            return f"its interface {min(missing)} was taken out of it"
        return ""

    def _isolate(
        self, claim: IsolateClaim, host: Host, namespace: NetworkNamespace, leftover: Barrier | None
    ) -> Report:
        if leftover is not None:
            namespace.end(leftover)  # of a worker that died: which lifelines answer shows only in an open network
        allowed = from_text(claim.allowed)
        isolation = Isolation(ExecutionId(claim.isolation), allowed, keeps_address=claim.of_host)
        answering = networks(host).answering(from_text(claim.own))
        if not any(each.purpose is Purpose.KAFKA for each in answering):
            raise TransientFailure(
                "no broker takes a connection from here now; a node isolated so could not be reached, nor released",
                code="no_lifeline",
            )
        if not namespace.begin(isolation):
            raise TransientFailure(f"{claim} was isolated by another program just now", code="raced")
        try:
            host.failpoints.reach("isolate_network.begun")
            wrong = self._test(namespace, isolation, host, answering)
            host.failpoints.reach("isolate_network.tested")
            tried = namespace.barrier()
            if (
                not wrong
                and tried is not None
                and tried.made_by == isolation.made_by
                and namespace.keep(isolation, tried)
            ):
                host.failpoints.reach("isolate_network.kept")
                kept = namespace.barrier()
                if kept is not None and kept.made_by == isolation.made_by:
                    return self._isolated(claim, kept)
            wrong = wrong or "its rules were taken away while they were tested"
        except WorkerError:
            self._take_back(namespace, isolation)
            raise
        self._take_back(namespace, isolation)
        host.failpoints.reach("isolate_network.taken_back")
        message = f"{claim} is open as before: {wrong}"
        return self.report(Outcome.FAILED, "self_test", message, outputs=self.outputs_of(claim))

    def _test(
        self, namespace: NetworkNamespace, isolation: Isolation, host: Host, answering: Collection[Lifeline]
    ) -> str:
        """What is wrong with the isolation that is on trial; empty for nothing."""
        missing = set(answering) - networks(host).answering(answering)
        missing -= networks(host).answering(missing)  # one lost connection is no cut line
        if missing:
            named = min(missing, key=str)
            return f"{named.purpose} {named.address}:{named.port} answered before, and does not with the rules in place"
        return namespace.blocks(isolation, sorted({each.address for each in answering}))

    def _take_back(self, namespace: NetworkNamespace, isolation: Isolation) -> None:
        """What cannot be taken back here ends by itself: it was a trial."""
        found = namespace.barrier()
        if found is not None and found.made_by == isolation.made_by:
            namespace.end(found)

    def _isolated(self, claim: IsolateClaim, kept: Barrier, *, cause: str = "action") -> Report:
        detail = "its rules are in the kernel under this execution's id"
        return self.report(
            Outcome.COMPLETED,
            "isolated",
            f"{claim} is cut off but for: {claim.allowed or 'nothing'}",
            outputs=self.outputs_of(claim) | {"ruleset_sha256": kept.sha256},
            post_condition=PostCondition("isolated", holds=True, detail=detail),
            effect_holds=True,
            cause=cause,
        )

    def _already(self, claim: IsolateClaim, made_by: str) -> Report:
        return self.no_action(claim, "already_isolated", f"it is isolated already, by {made_by or 'another program'}")


_NOT_RUNNING: Final = Gone("not_running", "nothing of it runs")


def _claim_on(execution: ExecutionId, container: ContainerFacts | None) -> IsolateClaim:
    """Which network it is; the rest is known once it is open."""
    return IsolateClaim(
        isolation=str(execution),
        scope="host" if container is None else "container",
        container_id=container.ref.id if container is not None else "",
        name=container.name[:256] if container is not None else "",
        runtime=container.ref.runtime if container is not None else "",
        started_at=container.started_at_ns if container is not None else 0,
        pid=container.pid if container is not None else 0,
        namespace=0,
        interfaces="",
        allowed="",
        own="",
        found=False,
        found_by="",
    )


def _refuse_bypassed(namespace: NetworkNamespace, claim: IsolateClaim) -> None:
    """Refuse a network on which the rules would cut off the host, or would not count."""
    if not claim.of_host and namespace.own:
        raise CommandRejected(
            f"{claim} is the host's, or this worker's own: isolate the host's network instead",
            code="shares_host_network",
        )
    bypass = namespace.bypass()
    if bypass:
        raise CommandRejected(
            f"{bypass} would carry packets round the rules of {claim}: use its own network policy",
            code="ebpf_data_path",
        )


def _tested(own: Lifelines) -> Lifelines:
    return tuple(each for each in own if each.purpose in _TESTED)


class ReleaseNetwork(NetworkAction[NoParameters, ReleaseClaim]):
    """Releases one network."""

    name = "release_network"
    summary = "Let an isolated host or container reach the network again"
    drawbacks = (
        "An intruder that was cut off may come back.",
        "Connections that were cut stay broken.",
    )
    parameters = NoParameters
    claims = (ReleaseClaim,)
    failpoints = ("release_network.released",)
    """Right after the rules were taken away."""
    undo_only = True

    def bind(self, job: Job[NoParameters], host: Host) -> ReleaseClaim:
        """Whether the isolation is there still."""
        isolated = job.undone_claim(IsolateClaim, missing="this node's journal knows no network to release")
        claim = claim_with(ReleaseClaim, isolated, present=False)
        return replace(claim, present=isinstance(self._isolation(claim, host), Barrier))

    def execute(self, job: Job[NoParameters], claim: ReleaseClaim, host: Host) -> Report:
        """Take the rules away, and check that they are gone."""
        opened = self.open(claim, host, any_run=True)
        if isinstance(opened, Gone):
            return self._nothing_to_undo(claim, opened.why)
        with closing(opened) as namespace:
            found = namespace.barrier()
            if found is None or found.made_by != claim.isolation:
                return self._nothing_to_undo(claim, _why_kept(found))
            namespace.end(found)
            host.failpoints.reach("release_network.released")
            after = namespace.barrier()
        if after is not None and after.made_by == claim.isolation:
            raise TransientFailure(f"the rules of {claim} are there again", code="not_released")
        return self._released(claim)

    def probe(self, job: Job[NoParameters], claim: ReleaseClaim, host: Host) -> Probe:
        """Gone is done."""
        try:
            found = self._isolation(claim, host)
        except (TransientFailure, CommandRejected) as error:
            return Pending(self.unreachable(claim, error.message))
        if isinstance(found, Barrier):
            return NotDone()
        return Done(self._released(claim, cause="unproven") if claim.present else self._nothing_to_undo(claim, found))

    def dry_run_report(self, job: Job[NoParameters], claim: ReleaseClaim, host: Host) -> Report:
        """What would be released."""
        would = f"{claim} would be released; nothing was touched"
        message = would if claim.present else f"would do nothing: {claim} is not isolated by it any more"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def _isolation(self, claim: ReleaseClaim, host: Host) -> Barrier | str:
        """The isolation, or why it is not there."""
        opened = self.open(claim, host, any_run=True)
        if isinstance(opened, Gone):
            return opened.why
        with closing(opened) as namespace:
            found = namespace.barrier()
        return found if found is not None and found.made_by == claim.isolation else _why_kept(found)

    def _released(self, claim: ReleaseClaim, *, cause: str = "action") -> Report:
        detail = "the kernel has its rules no longer"
        return self.report(
            Outcome.COMPLETED,
            "released",
            f"{claim} was released: {detail}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("released", holds=True, detail=detail),
            cause=cause,
        )

    def _nothing_to_undo(self, claim: ReleaseClaim, why: str) -> Report:
        return self.no_action(claim, "nothing_to_undo", why)


def _why_kept(found: Barrier | None) -> str:
    if found is None:
        return "its rules are gone already"
    return f"its rules are those of {found.made_by or 'another program'} now, and stay"
