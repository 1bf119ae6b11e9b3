"""One quarantine or restore on real files, as the node would run it, in a process that a test may kill anywhere.

`python -m tests.drivers.quarantine DIRECTORY quarantine|restore PATH`: like the node, it makes the claim durable first
(a file stands for the journal), probes what an earlier run claimed, and runs only what the probe says is safe. Prints
the outcome and its code. ``DRIVEN_CONTAINER`` names a container whose path it is. Also imported by tests, which drive
the same rig in their own process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.fakes.containers import SOCKET, FakeContainer, FakeContainers
from tests.fakes.processes import FakeProcesses
from workers.actions.base import AnyAction, Begun, Done, Job, NotDone, Pending, values_of
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected, TransientFailure, WorkerError, reason_of
from workers.domain.ids import NO_EXECUTION, ExecutionId, Incarnation, KeyId, NodeId, id_from_cause
from workers.domain.outcome import NOTHING, Outcome, Report
from workers.domain.request import Actor, ActorKind
from workers.domain.target import FileTarget, ReviewedFile, Target
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState
from workers.domain.targets.file import Enclosure
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.host.files.ports import VaultLimits
from workers.host.files.quarantine.vault import KernelFeatures, SystemVault
from workers.host.ports import Host
from workers.system.clock import SystemClock
from workers.system.failpoints import failpoints
from workers.system.ports import Failpoints
from workers.wire.avro import AvroCodec
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey

NODE = NodeId("ab" * 16)
NOON_NS = 1_783_198_004_000_000_000
_HOUR_NS = 3_600_000_000_000
TAKE = id_from_cause(NOON_NS, "quarantine")
BACK = id_from_cause(NOON_NS, "restore")
MEGABYTE = 1 << 20
CONTAINER = "DRIVEN_CONTAINER"
"""Environment: ID:STARTED_AT_NS:PID of a container; the path is then one of it."""
NO_CHOICE: Mapping[str, bool] = {}
ROOMY = VaultLimits(max_file=50 * MEGABYTE, quota=1 << 40, reserve=0)


@dataclass
class Rig:
    """A vault, and what a node around it does with its two actions."""

    directory: Path
    limits: VaultLimits = ROOMY
    armed: Failpoints = field(default_factory=lambda: failpoints({}))
    kernel: KernelFeatures = field(default_factory=KernelFeatures)
    vault_at: Path | None = None
    own: Mapping[Path, str] = field(default_factory=dict)
    """Trees of the worker itself."""
    inside: Enclosure | None = None
    """A container that its runtime knows; every path is one of it."""
    approval_class: str = "auto"
    """Of its commands; ``two`` stands for signatures that this version cannot verify yet, and only tests may."""

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        key_file = self.directory / "node.key"
        if not key_file.exists():
            key_file.write_bytes(PrivateKey.generate().pem())
        key, codec, clock = PrivateKey.from_pem(key_file.read_bytes()), AvroCodec(), SystemClock()
        pinned = PublicKey(key.key_id, key.public, KeyRole.NODE, NODE)
        keyset = Keyset(1, clock.now_ns() + _HOUR_NS, {key.key_id: pinned})
        self.vault = SystemVault(
            self.vault_at or self.directory / "vault",
            self.limits,
            node_id=NODE,
            signer=EnvelopeSigner(key, codec),
            verifier=EnvelopeVerifier(keyset, codec, clock=clock),
            clock=clock,
            own=self.own,
            held_back=0 if self.limits.reserve == 0 else 256 * 1024,
            kernel=self.kernel,
        )
        self.containers = FakeContainers()
        self.host = Host(
            processes=FakeProcesses(),
            clock=clock,
            failpoints=self.armed,
            vault=self.vault,
            containers=self.containers,
        )
        self.put_in(self.inside)

    def put_in(self, inside: Enclosure | None) -> None:
        """From now on this is the container's run; None for a container that is gone."""
        self.containers.table.clear()
        if inside is not None:
            self.inside = inside
            ref = ContainerRef(SOCKET, inside.container_id)
            facts = ContainerFacts(ref, ContainerState.RUNNING, inside.started_at_ns, inside.pid)
            self.containers.table.append(FakeContainer(facts))

    def target(self, path: bytes, reviewed: ReviewedFile | None = None) -> FileTarget:
        """Seen now."""
        container_id = self.inside.container_id if self.inside is not None else ""
        seen_ns = self.host.clock.now_ns() if container_id else NOON_NS
        return FileTarget(path=path, observed_at_ns=seen_ns, container_id=container_id, reviewed=reviewed)

    def quarantine(
        self,
        path: bytes,
        chosen: Mapping[str, bool] = NO_CHOICE,
        *,
        reviewed: ReviewedFile | None = None,
        execution_id: ExecutionId = TAKE,
    ) -> Report:
        """Take a file away."""
        return self._run(
            FileQuarantine(), self._command("file_quarantine", execution_id, self.target(path, reviewed), chosen)
        )

    def quarantine_job(self, path: bytes, execution_id: ExecutionId) -> Job[Any]:
        """A job to bind and execute apart, with something in between."""
        command = self._command("file_quarantine", execution_id, self.target(path), {})
        return Job(command, FileQuarantine().parse(NOTHING), self.host.clock.now_ns() + 60_000_000_000)

    def restore(self, *, of: ExecutionId = TAKE, execution_id: ExecutionId = BACK) -> Report:
        """Bring it back."""
        return self._run(FileUnquarantine(), self._command("file_unquarantine", execution_id, None, {}, undo_of=of))

    def _run(self, action: AnyAction, command: ActionCommand) -> Report:
        deadline_ns = self.host.clock.now_ns() + 60_000_000_000
        try:
            job = Job(command, action.parse(command.parameters), deadline_ns)
            claim = self._claimed(action, command)
            if claim is not None:
                return self._again(action, job, claim)
            action.admit(job, self.host)
            claim = action.bind(job, self.host)
        except CommandRejected as error:
            return Report(Outcome.REJECTED, reason_of(error), error.message)
        except WorkerError as error:
            return Report(Outcome.FAILED, reason_of(error), error.message)
        self._claim(command, claim)
        return self._execute(action, job, claim)

    def _again(self, action: AnyAction, job: Job[Any], claim: Any) -> Report:
        match action.probe(job, claim, self.host):
            case Done(report=report) | Pending(report=report):
                return report
            case NotDone() | Begun():
                return self._execute(action, job, claim)

    def _execute(self, action: AnyAction, job: Job[Any], claim: Any) -> Report:
        try:
            return action.execute(job, claim, self.host)
        except CommandRejected as error:
            return Report(Outcome.FAILED, reason_of(error), error.message)
        except TransientFailure as error:
            return Report(Outcome.UNKNOWN, reason_of(error), error.message)
        except WorkerError as error:
            unknown = type(error).__name__ == "Indeterminate"
            return Report(Outcome.UNKNOWN if unknown else Outcome.FAILED, reason_of(error), error.message)

    def _claimed(self, action: AnyAction, command: ActionCommand) -> Any:
        journal = self.directory / f"{command.command_id}.claim"
        return action.claim_of(json.loads(journal.read_text())) if journal.exists() else None

    def _claim(self, command: ActionCommand, claim: Any) -> None:
        part = self.directory / f"{command.command_id}.part"
        with part.open("w") as file:
            json.dump(values_of(claim), file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(self.directory / f"{command.command_id}.claim")

    def _command(
        self,
        action: str,
        execution_id: ExecutionId,
        target: Target | None,
        chosen: Mapping[str, bool | int],
        *,
        undo_of: ExecutionId = NO_EXECUTION,
    ) -> ActionCommand:
        now_ns = self.host.clock.now_ns()
        made = ActionCommand(
            command_id=execution_id,
            node_id=NODE,
            node_key=KeyId("k"),
            incarnation=Incarnation("i"),
            action=action,
            target=target,
            parameters=dict(chosen),
            parameters_sha256=parameters_digest(NOTHING),
            issued_at_ns=now_ns,
            not_before_ns=now_ns,
            expires_at_ns=now_ns + _HOUR_NS,
            timeout_s=60,
            approval_class=self.approval_class,
            actor=Actor(ActorKind.PERSON, "test"),
        )
        return replace(made, undo_of=undo_of, parameters_sha256=parameters_digest(made.parameters))


def enclosed(environment: Mapping[str, str]) -> Enclosure | None:
    """The container that the environment names."""
    named = environment.get(CONTAINER)
    if not named:
        return None
    container_id, started_at_ns, pid = named.split(":")
    return Enclosure(container_id, int(started_at_ns), int(pid))


def naming(inside: Enclosure) -> Mapping[str, str]:
    """The environment that names a container."""
    return {CONTAINER: f"{inside.container_id}:{inside.started_at_ns}:{inside.pid}"}


def main() -> None:
    directory, verb, path = sys.argv[1:]
    rig = Rig(Path(directory), armed=failpoints(os.environ), inside=enclosed(os.environ))
    report = rig.quarantine(os.fsencode(path)) if verb == "quarantine" else rig.restore()
    print(report.outcome, report.code)


if __name__ == "__main__":
    main()
