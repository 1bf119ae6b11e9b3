"""get_logs: what a container wrote, as its runtime kept it, into the object store.

Run by the node worker in the gathering lane. Logs are a container's, whichever of its runs wrote them: one that was
started again since it was seen is asked all the same, and an ended one too. Nothing is done to it. The way from the
spool to the store is ``actions.base.gathering``'s. What the lines hold is evidence, kept as it is, and never repeated
in a message of ours."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from workers.actions.base import FieldSpec, Job, parameter
from workers.actions.base.container import FACTS, ContainerAction, ContainerClaim, claim_on_run, runtimes
from workers.actions.base.gathering import OBJECT, GatheringAction, failpoints_of, stores
from workers.domain.errors import CommandRejected, TransientFailure
from workers.domain.outcome import Outcome, PostCondition, Report, Values
from workers.domain.pace import Pace
from workers.domain.target import ContainerTarget
from workers.domain.targets.container import choose
from workers.domain.targets.custody import Custody
from workers.host.evidence.ports import Spool
from workers.host.ports import Host

_SHOWN: Final = frozenset({"container_id", "name", "image", "runtime", "started_at", "state"})
_DECADE_S: Final = 315_360_000


@dataclass(frozen=True, slots=True)
class LogParameters:
    """Its parameters."""

    tail: int = parameter("How many of its last lines; 0 takes all", default=10_000, maximum=10_000_000)
    since: int = parameter(
        "How many seconds before it was seen (or asked for) they begin; 0 takes them from their beginning",
        default=0,
        maximum=_DECADE_S,
    )


class GetLogs(GatheringAction[LogParameters, ContainerClaim]):
    """Gets the logs of one container."""

    name = "get_logs"
    summary = "Copy the logs of a container, both streams with their times, to the object store"
    drawbacks = (
        "What it logged leaves the machine, secrets among it: whoever may download acquired files can read it.",
        "Only what its runtime kept is there; of more than this node takes, the newest lines are missing.",
        "Under CRI, logs are files: those that its kubelet compressed are missing, and a line that has no end yet.",
        "Under CRI, a log behind a symbolic link or with a line that no runtime writes is refused: use file_acquire.",
        "Under CRI, more than 512 MiB is not looked through for the last lines or for those since a moment.",
    )
    target = ContainerTarget
    parameters = LogParameters
    claims = (ContainerClaim,)
    failpoints = failpoints_of("get_logs")
    outputs = (
        *(spec for spec in FACTS if spec.name in _SHOWN),
        *OBJECT,
        FieldSpec("truncated", "boolean", "There was more than this node takes: ask for fewer lines, or less far back"),
    )
    privileges = ("DAC_READ_SEARCH",)
    mounts = ("/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock", "/var/log/pods")
    suffix = ".log"
    example: ClassVar[Mapping[str, Any]] = {
        "target": ContainerAction.example["target"],
        "parameters": {"tail": 10_000, "since": 3600},
    }

    def admit(self, job: Job[LogParameters], host: Host) -> None:
        """Refuse what needs no look at the container."""
        if not isinstance(job.target, ContainerTarget):
            raise CommandRejected("get_logs needs a container as its target", code="invalid_target")
        runtimes(host)
        stores(host)

    def bind(self, job: Job[LogParameters], host: Host) -> ContainerClaim:
        """The container, whichever run it is in; nothing is done to it, so that none is protected."""
        target, now_ns = job.target, host.clock.now_ns()
        assert isinstance(target, ContainerTarget)
        found = runtimes(host).find(target.container_id)
        facts = choose(found, target.container_id, observed_at_ns=now_ns, now_ns=now_ns)
        if facts.unserved:
            why = f"the logs of container {facts.ref.id[:12]} are its runtime's, which was not asked: {facts.unserved}"
            raise TransientFailure(why) if facts.unheard else CommandRejected(why, code="runtime_unknown")
        return claim_on_run(facts)

    def take(
        self, job: Job[LogParameters], claim: ContainerClaim, host: Host, spool: Spool, pace: Pace
    ) -> Custody | Report:
        """Its lines, up to this node's limit."""
        ref, container = claim.ref, runtimes(host).open(claim.ref)
        if container.inspect() is None:
            return self._gone(claim)
        lines = container.logs(tail=job.parameters.tail, since_ns=_since_ns(job))
        with closing(lines):
            kept = spool.keep(job.command.command_id, lines, pace=pace)
        source = f"container {ref.id} of {ref.runtime}"
        return self.custody(job, host, size=kept.size, sha256=kept.sha256, source=source, truncated=not kept.whole)

    def dry_run_report(self, job: Job[LogParameters], claim: ContainerClaim, host: Host) -> Report:
        """What would be copied."""
        message = f"would copy the logs of {claim} to the object store; nothing was read"
        return self.report(Outcome.DRY_RUN, "dry_run", message, outputs=self.outputs_of(claim))

    def subject(self, claim: ContainerClaim) -> str:
        """The logs."""
        return f"the log of {claim}"

    def custody_outputs(self, claim: ContainerClaim, custody: Custody) -> Values:
        """Whether it is whole."""
        return {"truncated": custody.truncated}

    def _gone(self, claim: ContainerClaim) -> Report:
        why = "it was removed meanwhile, and its logs with it"
        return self.report(
            Outcome.NO_ACTION,
            "target_gone",
            f"{claim}: {why}",
            outputs=self.outputs_of(claim),
            post_condition=PostCondition("container_gone", holds=True, detail=why),
        )


def _since_ns(job: Job[LogParameters]) -> int:
    """The same at every attempt: counted from what the command itself says."""
    if not job.parameters.since:
        return 0
    assert isinstance(job.target, ContainerTarget)
    seen_ns = job.target.observed_at_ns or job.command.issued_at_ns
    return max(1, seen_ns - job.parameters.since * 1_000_000_000)
