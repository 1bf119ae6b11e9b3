"""isolate_network: a host or a container reaches nobody, and nobody it, but for what the node lives by.

Run by the node worker in the containment lane; undone by ``release_network``. It is begun as a trial that the kernel
ends by itself, tested, and only then made to last: brokers and object store that answered before must answer a fresh
connection still, and a packet that must not leave must be refused. A failed test takes it back in the same run; a
worker that dies in between finds the trial at its next start and begins again from an open network; one that never
comes back leaves a network that is open. Must never leave a host cut off from its brokers.

A container keeps nothing but the operator's list: brokers and store are the worker's own, who lives elsewhere, and what
is tested there is that this worker still reaches them (the container may be the broker).
"""

from collections.abc import Collection
from contextlib import closing
from typing import Final

from workers.actions.base import Begun, Done, FieldSpec, Job, NoParameters, NotDone, Pending, Probe
from workers.actions.base.network import FACTS, Gone, NetworkAction, facts_of, network_of, networks
from workers.domain.errors import CommandRejected, TransientFailure, WorkerError
from workers.domain.ids import ExecutionId
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.target import NetworkTarget
from workers.domain.targets.network import Barrier, Isolation, Lifeline, Lifelines, Purpose, from_text, to_text
from workers.host.network.ports import NetworkNamespace
from workers.host.ports import Host

FAILPOINTS: Final = (
    "isolate_network.begun",
    "isolate_network.tested",
    "isolate_network.kept",
    "isolate_network.taken_back",
)
"""Right after the trial began, after its test, after it was made to last, after it was taken back."""

_TESTED: Final = frozenset({Purpose.KAFKA, Purpose.STORE})


class IsolateNetwork(NetworkAction[NoParameters]):
    """Isolates one network."""

    name = "isolate_network"
    summary = "Cut a host or a container off from the network, but for what the node lives by"
    drawbacks = (
        "Whoever uses the host or container loses it; connections that are open are cut too.",
        "On a host its containers' traffic is cut with it; under Kubernetes a container's is its pod's.",
        "Brokers, object store, API server, DNS servers (where names need them), DHCP and loopback stay reachable.",
        "Addresses are those of this moment: a broker that moves is lost unless its network is on the allow list.",
        "Root in there may undo it, or send raw frames past it; the node tells when the rules are changed.",
    )
    parameters = NoParameters
    watched = True
    reversible_by = "release_network"
    outputs = (*FACTS, FieldSpec("ruleset_sha256", "string", "Of the rules as the kernel lists them"))

    def bind(self, job: Job[NoParameters], host: Host) -> Values:
        """Which network, whether it can be isolated at all, what is there already, and what will stay reachable."""
        assert isinstance(job.target, NetworkTarget)
        claim = self.where(job.target, host)
        claim |= {"isolation": str(job.command.command_id), "namespace": 0, "interfaces": "", "allowed": ""}
        claim |= {"own": "", "found": False, "found_by": ""}
        opened = self.held(claim, host)
        if isinstance(opened, Gone):
            return claim
        with closing(opened) as place:
            self._may_be_isolated(place, claim)
            found = place.barrier()
            claim |= {"namespace": place.namespace, "interfaces": " ".join(place.interfaces())}
        if found is not None and not found.trial:
            return claim | {"found": True, "found_by": found.made_by}
        own, operators = networks(host).lifelines(), networks(host).operators()
        allowed = (*own, *operators) if claim["scope"] == "host" else operators
        return claim | {"own": to_text(_tested(own)), "allowed": to_text(allowed)}

    def execute(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """Try it, test it, keep it or take it back."""
        if claim["found"]:
            return self._already(claim, str(claim["found_by"]))
        opened = self.held(claim, host) if claim["namespace"] else Gone("not_running", "nothing of it runs")
        if isinstance(opened, Gone):
            return self.gone(claim, opened)
        with closing(opened) as place:
            if place.namespace != claim["namespace"]:
                return self.gone(claim, Gone("superseded", "it lives in another network namespace now"))
            found = place.barrier()
            if found is None or (found.trial and found.made_by == claim["isolation"]):
                return self._isolate(claim, host, place, found)
            if found.made_by == claim["isolation"]:
                return self._isolated(claim, found)
            return self._already(claim, found.made_by)

    def probe(self, job: Job[NoParameters], claim: Values, host: Host) -> Probe:
        """Ours for good is done, ours on trial was never tested: that is finished from the start."""
        if claim["found"]:
            return Done(self._already(claim, str(claim["found_by"])))
        try:
            opened = self.held(claim, host) if claim["namespace"] else Gone("not_running", "nothing of it runs")
        except (TransientFailure, CommandRejected) as error:
            return Pending(self.silent(claim, error.message))
        if isinstance(opened, Gone):
            return Done(self.gone(claim, opened))
        with closing(opened) as place:
            found = place.barrier()
        if found is None:
            return NotDone()
        if found.made_by != claim["isolation"]:
            return Done(self._already(claim, found.made_by))
        return Begun() if found.trial else Done(self._isolated(claim, found, cause="unproven"))

    def dry_run_report(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """What would be cut off, and what would not."""
        if claim["found"] or not claim["namespace"]:
            message = f"would do nothing: {network_of(claim)} {_why_nothing(claim)}"
        else:
            message = f"{network_of(claim)} would be cut off but for: {claim['allowed'] or 'nothing'}"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=facts_of(claim))

    def lost(self, held: Values, host: Host) -> str:
        """Its rules are not there any more. Those that were only changed are: as long as a release has something to
        take away, an isolation must never be said to be lost, or nobody could release it."""
        opened = self.held(held, host, any_run=True)
        if isinstance(opened, Gone):
            return opened.why
        with closing(opened) as place:
            found = place.barrier()
        if found is None:
            return "its rules are gone: somebody flushed them, or it was started again"
        return "" if found.made_by == held["isolation"] else f"its rules are those of {found.made_by or 'somebody'} now"

    def weakened(self, held: Values, host: Host) -> str:
        """The rules were changed, or something goes round them."""
        opened = self.held(held, host, any_run=True)
        if isinstance(opened, Gone):
            return ""
        with closing(opened) as place:
            found, bypass = place.barrier(), place.bypass()
            missing = set(str(held["interfaces"]).split()) - set(place.interfaces())
        if found is not None and found.sha256 != held["ruleset_sha256"]:
            return "its rules were changed by somebody"
        if bypass:
            return f"{bypass} carries packets round it"
        if missing and held["scope"] == "container":
            return f"its interface {min(missing)} was taken out of it"
        return ""

    def _may_be_isolated(self, place: NetworkNamespace, claim: Values) -> None:
        if claim["scope"] == "container" and place.own:
            raise CommandRejected(
                f"{network_of(claim)} is the host's, or this worker's own: isolate the host's network if that is meant",
                code="shares_host_network",
            )
        bypass = place.bypass()
        if bypass:
            raise CommandRejected(
                f"{bypass} would carry packets round the rules of {network_of(claim)}: use its own network policy",
                code="ebpf_data_path",
            )

    def _isolate(self, claim: Values, host: Host, place: NetworkNamespace, left: Barrier | None) -> Report:
        if left is not None:
            place.end(left)  # of a worker that died: what answers is only seen in an open network
        allowed = from_text(str(claim["allowed"]))
        isolation = Isolation(_by(claim), allowed, keeps_address=claim["scope"] == "host")
        answering = networks(host).answering(from_text(str(claim["own"])))
        if not any(each.purpose is Purpose.KAFKA for each in answering):
            raise TransientFailure(
                "no broker takes a connection from here now; a node isolated so could not be heard, nor released",
                code="no_lifeline",
            )
        if not place.begin(isolation):
            raise TransientFailure(f"{network_of(claim)} was isolated by somebody just now", code="raced")
        try:
            host.failpoints.reach("isolate_network.begun")
            wrong = self._tested(place, isolation, host, answering)
            host.failpoints.reach("isolate_network.tested")
            tried = place.barrier()
            if not wrong and tried is not None and tried.made_by == isolation.made_by and place.keep(isolation, tried):
                host.failpoints.reach("isolate_network.kept")
                kept = place.barrier()
                if kept is not None and kept.made_by == isolation.made_by:
                    return self._isolated(claim, kept)
            wrong = wrong or "its rules were taken away while they were tested"
        except WorkerError:
            self._take_back(place, isolation)
            raise
        self._take_back(place, isolation)
        host.failpoints.reach("isolate_network.taken_back")
        message = f"{network_of(claim)} is open as before: {wrong}"
        return self.report(Outcome.FAILED, "self_test", message, outputs=facts_of(claim))

    def _tested(
        self, place: NetworkNamespace, isolation: Isolation, host: Host, answering: Collection[Lifeline]
    ) -> str:
        """What is wrong with the isolation that is on trial; empty for nothing."""
        missing = set(answering) - networks(host).answering(answering)
        missing -= networks(host).answering(missing)  # one lost connection is no cut line
        if missing:
            named = min(missing, key=str)
            return f"{named.purpose} {named.address}:{named.port} answered before, and does not with the rules in place"
        return place.blocks(isolation, sorted({each.address for each in answering}))

    def _take_back(self, place: NetworkNamespace, isolation: Isolation) -> None:
        """What cannot be taken back here runs out by itself: nothing was kept yet."""
        found = place.barrier()
        if found is not None and found.made_by == isolation.made_by:
            place.end(found)

    def _isolated(self, claim: Values, kept: Barrier, *, cause: str = "action") -> Report:
        detail = "its rules are in the kernel under this execution's id"
        return self.report(
            Outcome.COMPLETED,
            "isolated",
            f"{network_of(claim)} is cut off but for: {claim['allowed'] or 'nothing'}",
            outputs=facts_of(claim) | {"ruleset_sha256": kept.sha256},
            post_condition=PostCondition("isolated", holds=True, detail=detail),
            effect_holds=True,
            cause=cause,
        )

    def _already(self, claim: Values, made_by: str) -> Report:
        return self.nothing(claim, "already_isolated", f"it is isolated already, by {made_by or 'somebody'}")


def _by(claim: Values) -> ExecutionId:
    return ExecutionId(str(claim["isolation"]))


def _tested(own: Lifelines) -> Lifelines:
    return tuple(each for each in own if each.purpose in _TESTED)


def _why_nothing(claim: Values) -> str:
    return f"is isolated already, by {claim['found_by'] or 'somebody'}" if claim["found"] else "does not run"
