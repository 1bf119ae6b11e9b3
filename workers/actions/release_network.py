"""release_network: an isolated host or container reaches the network again as before.

Run by the node worker as the undo of ``isolate_network`` and in no other way: which network, and whose isolation,
stands in this node's own journal. Must never take away rules that another execution, or somebody else, made.
"""

from contextlib import closing
from typing import Final

from workers.actions.base import Done, Job, NoParameters, NotDone, Pending, Probe
from workers.actions.base.network import Gone, NetworkAction, facts_of, network_of
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.targets.network import Barrier
from workers.host.ports import Host

FAILPOINTS: Final = ("release_network.released",)
"""Right after the rules were taken away."""


class ReleaseNetwork(NetworkAction[NoParameters]):
    """Releases one network."""

    name = "release_network"
    summary = "Let an isolated host or container reach the network again"
    drawbacks = (
        "Whoever was cut off may come back.",
        "Connections that were cut stay broken.",
    )
    parameters = NoParameters
    undo_only = True

    def bind(self, job: Job[NoParameters], host: Host) -> Values:
        """Whether the isolation is there still."""
        if "isolation" not in job.undoes:
            raise CommandRejected("this node's journal knows no network to give back", code="nothing_to_revert")
        claim = facts_of(job.undoes)
        found = self._found(claim, host)
        return claim | {"present": isinstance(found, Barrier)}

    def execute(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """Take the rules away, and look whether they are gone."""
        opened = self.held(claim, host, any_run=True)
        if isinstance(opened, Gone):
            return self._nothing(claim, opened.why)
        with closing(opened) as place:
            found = place.barrier()
            if found is None or found.made_by != claim["isolation"]:
                return self._nothing(claim, _said(found))
            place.end(found)
            host.failpoints.reach("release_network.released")
            after = place.barrier()
        if after is not None and after.made_by == claim["isolation"]:
            raise TransientFailure(f"the rules of {network_of(claim)} are there again", code="not_released")
        return self._released(claim)

    def probe(self, job: Job[NoParameters], claim: Values, host: Host) -> Probe:
        """Gone is done."""
        try:
            found = self._found(claim, host)
        except (TransientFailure, CommandRejected) as error:
            return Pending(self.silent(claim, error.message))
        if isinstance(found, Barrier):
            return NotDone()
        return Done(self._released(claim, cause="unproven") if claim["present"] else self._nothing(claim, found))

    def dry_run_report(self, job: Job[NoParameters], claim: Values, host: Host) -> Report:
        """What would be released."""
        would = f"{network_of(claim)} would be released; nothing was touched"
        message = would if claim["present"] else f"would do nothing: {network_of(claim)} is not isolated by it any more"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=facts_of(claim))

    def _found(self, claim: Values, host: Host) -> Barrier | str:
        """The isolation, or why it is not there."""
        opened = self.held(claim, host, any_run=True)
        if isinstance(opened, Gone):
            return opened.why
        with closing(opened) as place:
            found = place.barrier()
        return found if found is not None and found.made_by == claim["isolation"] else _said(found)

    def _released(self, claim: Values, *, cause: str = "action") -> Report:
        detail = "the kernel has its rules no longer"
        return self.report(
            Outcome.COMPLETED,
            "released",
            f"{network_of(claim)} was released: {detail}",
            outputs=facts_of(claim),
            post_condition=PostCondition("released", holds=True, detail=detail),
            cause=cause,
        )

    def _nothing(self, claim: Values, why: str) -> Report:
        return self.nothing(claim, "nothing_to_undo", why)


def _said(found: Barrier | None) -> str:
    if found is None:
        return "its rules are gone already"
    return f"its rules are those of {found.made_by or 'somebody else'} now, and stay"
