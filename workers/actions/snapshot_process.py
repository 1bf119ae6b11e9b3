"""snapshot_process: store what the kernel shows of one process as a document in the object store.

Run by the node worker in the gathering lane. The process is identified as for a kill, and everything is read while a
pidfd holds it (``domain.targets.process_snapshot``); nothing is sent to it, and it runs on. The upload is in
``base.gathering``. Must never keep a value of its environment that is not known to be harmless."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from workers.actions.base import FieldSpec, Job
from workers.actions.base.find_process import Gone, find, named_process
from workers.actions.base.gathering import OBJECT, GatheringAction, failpoints_of, stores
from workers.actions.base.process import (
    EXAMPLE,
    FACTS,
    AncestorParameters,
    GoneProcess,
    ProcessClaim,
    claim_on_process,
    gone_process,
    never_seen,
)
from workers.domain.errors import LimitExceeded
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.pace import Pace
from workers.domain.target import ProcessTarget
from workers.domain.targets.custody import Custody
from workers.domain.targets.process_snapshot import document
from workers.host.evidence.ports import Spool
from workers.host.ports import Host

READ_S: Final = 10.0
"""After it no part of a snapshot is begun any more: 4,096 of each thing take a tenth of a second on an idle machine."""


class SnapshotProcess(GatheringAction[AncestorParameters, ProcessClaim | GoneProcess]):
    """Takes a snapshot of one process."""

    name = "snapshot_process"
    summary = "Keep what the kernel shows of a process: files, sockets, maps, threads, limits, environment redacted"
    drawbacks = (
        "Paths, addresses and its command line (secrets masked) leave the machine.",
        "It shows one moment, read within milliseconds part by part; the process runs on meanwhile.",
        "Its memory is not read; of its environment only what is known to be harmless is kept with its value.",
    )
    target = ProcessTarget
    parameters = AncestorParameters
    claims = (ProcessClaim, GoneProcess)
    failpoints = failpoints_of("snapshot_process")
    outputs = (
        *(spec for spec in FACTS if spec.name != "container_init"),
        *OBJECT,
        FieldSpec("truncated", "boolean", "It has more of something than is kept; the document names it"),
    )
    privileges = ("DAC_READ_SEARCH", "SYS_PTRACE")
    mounts = ()
    suffix = ".json"
    example: ClassVar[Mapping[str, Any]] = EXAMPLE

    def admit(self, job: Job[AncestorParameters], host: Host) -> None:
        """Refuse what can be refused without reading the process."""
        named_process(job.command, job.parameters.ancestor)
        stores(host)

    def bind(self, job: Job[AncestorParameters], host: Host) -> ProcessClaim | GoneProcess:
        """The process that the command names, if it is still there; nothing is done to it, so that none is
        protected."""
        found = find(job.command, job.parameters.ancestor, host)
        if isinstance(found, Gone):
            return gone_process(job, found)
        try:
            return claim_on_process(found)
        finally:
            found.handle.close()

    def take(
        self, job: Job[AncestorParameters], claim: ProcessClaim | GoneProcess, host: Host, spool: Spool, pace: Pace
    ) -> Custody | Report:
        """Its document, made while it is held."""
        if isinstance(claim, GoneProcess):
            return self._gone(claim, claim.gone) if claim.seen else never_seen(self, claim)
        handle = claim.hold(host)
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
        kept = spool.keep(job.command.command_id, [made.content], pace=pace)
        source = f"process {claim.pid} of boot {claim.boot_id}, started at {claim.start_ticks} ticks"
        more = {"source": source, "truncated": made.truncated or bool(snapshot.missing)}
        return self.custody(job, host, size=kept.size, sha256=kept.sha256, **more)

    def dry_run_report(self, job: Job[AncestorParameters], claim: ProcessClaim | GoneProcess, host: Host) -> Report:
        """What would be read."""
        message = (
            f"would do nothing: {claim.gone}"
            if isinstance(claim, GoneProcess)
            else f"would take a snapshot of {claim}; nothing was read"
        )
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def subject(self, claim: ProcessClaim | GoneProcess) -> str:
        """The snapshot."""
        return f"the snapshot of {claim}"

    def custody_outputs(self, claim: ProcessClaim | GoneProcess, custody: Custody) -> Values:
        """Whether it is whole."""
        return {"truncated": custody.truncated}

    def _gone(self, claim: ProcessClaim | GoneProcess, why: str) -> Report:
        return self.report(
            Outcome.NO_ACTION,
            "target_gone",
            f"no snapshot was taken of process {claim.pid}: {why}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("process_gone", holds=True, detail=why),
        )
