"""One gathering of the real thing, as the node would run it, in a process that a test may kill anywhere.

`python -m tests.drivers.acquire DIRECTORY PATH` as `tests.drivers.quarantine`, on the same rig, with a spool and an
object store beside the vault: a directory, or what `ACQUIRE_STORE` (a JSON of the settings' `storage`) names. A PATH
that is a number is a process, of which a snapshot is taken.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.drivers.quarantine import MEGABYTE, NODE, NOON_NS, Rig, enclosed
from workers.actions.file_acquire import FileAcquire
from workers.actions.get_logs import GetLogs
from workers.actions.snapshot_process import SnapshotProcess
from workers.domain.event import ProcessRef
from workers.domain.ids import ExecutionId, id_from_cause
from workers.domain.outcome import Report
from workers.domain.target import ContainerTarget, ProcessTarget, ReviewedFile
from workers.domain.targets.custody import object_key
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.host.containers.ports import Containers
from workers.host.evidence.file_reader import DirectFileReader, FileReader
from workers.host.evidence.fork_server import start_fork_server
from workers.host.evidence.isolated_reader import IsolatedFileReader
from workers.host.evidence.spool import SystemSpool
from workers.host.processes.system import SystemProcesses
from workers.settings import StorageSettings, parse
from workers.store.objects.ports import ObjectStore
from workers.store.objects.stores import open_store
from workers.system.clock import SystemClock
from workers.system.failpoints import failpoints
from workers.wire.avro import AvroCodec
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey

GATHER = id_from_cause(NOON_NS, "acquire")
KEY = object_key(NODE, GATHER)
STORE = "ACQUIRE_STORE"
KEPT = "ACQUIRE_KEPT"
"""Environment: the file is read by a reader process, as in a node."""


@dataclass
class AcquireRig(Rig):
    """A spool and a store, and what a node around them does."""

    largest: int = 50 * MEGABYTE
    reserve: int = 0
    store: ObjectStore | None = None
    spool_at: Path | None = None
    reader: FileReader | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        clock = self.host.clock
        key = PrivateKey.from_pem((self.directory / "node.key").read_bytes())
        keyset = Keyset(
            1,
            clock.now_ns() + 3_600_000_000_000,
            {key.key_id: PublicKey(key.key_id, key.public, KeyRole.NODE, NODE)},
        )
        self.spool = SystemSpool(
            self.spool_at or self.directory / "spool",
            largest=self.largest,
            reserve=self.reserve,
            node_id=NODE,
            signer=EnvelopeSigner(key, AvroCodec()),
            verifier=EnvelopeVerifier(keyset, AvroCodec(), clock=clock),
            own=self.own,
            reader=self.reader or DirectFileReader(openat2=self.kernel.openat2),
        )
        self.objects = self.directory / "objects"
        store = self.store or open_store(StorageSettings(directory=self.objects), NODE)
        self.host = replace(self.host, spool=self.spool, objects=store, processes=SystemProcesses())

    def acquire(
        self,
        path: bytes,
        chosen: Mapping[str, bool] | None = None,
        *,
        reviewed: ReviewedFile | None = None,
        execution_id: ExecutionId = GATHER,
    ) -> Report:
        """Acquire a file."""
        return self._run(
            FileAcquire(), self._command("file_acquire", execution_id, self.target(path, reviewed), chosen or {})
        )

    def snapshot(self, pid: int, *, execution_id: ExecutionId = GATHER) -> Report:
        """Take a snapshot of whoever has the pid, as a person may ask."""
        target = ProcessTarget(line=(ProcessRef(pid=pid),), observed_at_ns=0)
        return self._run(SnapshotProcess(), self._command("snapshot_process", execution_id, target, {}))

    def logs(self, container_id: str, containers: Containers, *, execution_id: ExecutionId = GATHER) -> Report:
        """Get a container's log from one of these."""
        self.host = replace(self.host, containers=containers)
        target = ContainerTarget(container_id, observed_at_ns=self.host.clock.now_ns())
        return self._run(GetLogs(), self._command("get_logs", execution_id, target, {"tail": 0}))


def store_from(environment: Mapping[str, str], rig: Rig) -> ObjectStore | None:
    """The store that the environment names."""
    named: dict[str, Any] = json.loads(environment.get(STORE, "{}"))
    return open_store(parse(StorageSettings, named), NODE)


def main() -> None:
    directory, path = sys.argv[1:]
    reader = IsolatedFileReader(start_fork_server(), SystemClock()) if os.environ.get(KEPT) else None
    rig = AcquireRig(Path(directory), reader=reader, armed=failpoints(os.environ), inside=enclosed(os.environ))
    rig.host = replace(rig.host, objects=store_from(os.environ, rig) or rig.host.objects)
    report = rig.snapshot(int(path)) if path.isdigit() else rig.acquire(os.fsencode(path))
    print(report.outcome, report.code)


if __name__ == "__main__":
    main()
