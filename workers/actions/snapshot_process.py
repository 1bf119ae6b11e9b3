"""snapshot_process: what the kernel shows of one process, as a document in the object store.

Run by the node worker in the gathering lane. Which process is meant is told as for a kill, and everything is read
while a pidfd holds it (``domain.targets.process_snapshot``); nothing is sent to it, and nothing of it stops. The way
from the spool to the store is ``actions.base.gathering``'s. Must never keep a value of its environment that is not
known to be harmless."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from workers.actions.base import FieldSpec, Job
from workers.actions.base import find_process as seen
from workers.actions.base.gathering import OBJECT, GatheringAction, failpoints_of, shelves
from workers.actions.base.process import FACTS, Chosen, SightedAction, bound, called, reopen
from workers.domain.errors import LimitExceeded
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.target import ProcessTarget
from workers.domain.targets.custody import Custody
from workers.domain.targets.process_snapshot import document
from workers.host.evidence.ports import Spool
from workers.host.ports import Host

FAILPOINTS: Final = failpoints_of("snapshot_process")

READ_S: Final = 10.0
"""After it no part of a snapshot is begun any more: 4,096 of each thing take a tenth of a second on an idle machine."""


class SnapshotProcess(GatheringAction[Chosen]):
    """Takes a snapshot of one process."""

    name = "snapshot_process"
    summary = "Keep what the kernel shows of a process: files, sockets, maps, threads, limits, environment redacted"
    drawbacks = (
        "Paths, addresses and its command line (secrets masked) leave the machine.",
        "It shows one moment, read within milliseconds part by part; the process runs on meanwhile.",
        "Its memory is not read; of its environment only what is known to be harmless is kept with its value.",
    )
    target = ProcessTarget
    parameters = Chosen
    outputs = (
        *(spec for spec in FACTS if spec.name != "container_init"),
        *OBJECT,
        FieldSpec("truncated", "boolean", "It has more of something than is kept; the document says of what"),
    )
    privileges = ("DAC_READ_SEARCH", "SYS_PTRACE")
    mounts = ()
    suffix = ".json"
    example: ClassVar[Mapping[str, Any]] = SightedAction.example

    def admit(self, job: Job[Chosen], host: Host) -> None:
        """Refuse what needs no look at the process."""
        seen.meant(job.command, job.parameters.ancestor)
        shelves(host)

    def bind(self, job: Job[Chosen], host: Host) -> Values:
        """The process that was meant, if it is still there; nothing is done to it, so that none is protected."""
        found = seen.find(job.command, job.parameters.ancestor, host)
        if isinstance(found, seen.Gone):
            _, ref = seen.meant(job.command, job.parameters.ancestor)
            return {"pid": ref.pid, "present": False, "gone": found.why}
        try:
            return bound(found.handle.facts, found.binding)
        finally:
            found.handle.close()

    def take(self, job: Job[Chosen], claim: Values, host: Host, spool: Spool) -> Custody | Report:
        """Its document, made while it is held."""
        if not claim["present"]:
            return self._gone(claim, str(claim["gone"]))
        handle = reopen(claim, host)
        if handle is None:
            return self._gone(claim, "it has ended meanwhile")
        try:
            left_s = (job.deadline_ns - host.clock.now_ns()) / 1_000_000_000
            snapshot = handle.snapshot(timeout_s=min(READ_S, left_s))
        finally:
            handle.close()
        if snapshot is None:
            return self._gone(claim, "it has ended meanwhile")
        try:
            made = document(snapshot, limit=spool.largest)
        except ValueError as error:
            raise LimitExceeded(f"{error}; this node takes at most {spool.largest}", code="too_large") from error
        kept = spool.keep(job.command.command_id, [made.content], deadline_ns=job.deadline_ns)
        source = f"process {claim['pid']} of boot {claim['boot_id']}, started at {claim['start_ticks']} ticks"
        more = {"source": source, "truncated": made.truncated or bool(snapshot.missing)}
        return self.custody(job, host, size=kept.size, sha256=kept.sha256, **more)

    def dry_run_report(self, job: Job[Chosen], claim: Values, host: Host) -> Report:
        """What would be looked at."""
        message = (
            f"would take a snapshot of {called(claim)}; nothing was read"
            if claim["present"]
            else f"would do nothing: {claim['gone']}"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.known(claim))

    def subject(self, claim: Values) -> str:
        """The snapshot."""
        return f"the snapshot of {called(claim)}"

    def said(self, claim: Values, custody: Custody) -> Values:
        """Whether it is whole."""
        return {"truncated": custody.truncated}

    def _gone(self, claim: Values, why: str) -> Report:
        return self.report(
            Outcome.NO_ACTION,
            "target_gone",
            f"no snapshot was taken of process {claim['pid']}: {why}",
            outputs=self.known(claim),
            post_condition=PostCondition("process_gone", holds=True, detail=why),
        )
