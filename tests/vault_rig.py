"""Quarantine and restore on real files in a directory, as a node would run them: real vault, no journal, no bus.

Used by tests/contract/test_vault.py, by the crash sweeps, and by the driver that runs under strace.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.processes import FakeProcesses
from tests.fakes.signing import FakeSigner, FakeVerifier, fake_key, fake_keyset
from workers.actions.base import AnyAction, Done, Job
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.ids import ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import Report, Scalar, Values
from workers.domain.request import Actor, ActorKind
from workers.domain.target import FileTarget, ReviewedFile
from workers.domain.trust.keyset import KeyRole
from workers.host.files.ports import VaultLimits
from workers.host.files.quarantine.vault import KernelFeatures, SystemVault
from workers.host.ports import Host
from workers.system.clock import SystemClock
from workers.system.ports import Failpoints
from workers.wire.avro import AvroCodec

NODE = NodeId("a1" * 16)
KEY = fake_key(NODE, KeyRole.NODE)
TAKEN = ExecutionId("0199e0f7-0000-7000-8000-000000000001")
BROUGHT_BACK = ExecutionId("0199e0f7-0000-7000-8000-000000000002")
MEGABYTE = 1 << 20


@dataclass
class VaultRig:
    """A node's vault, and what it may do with files."""

    vault_path: Path
    limits: VaultLimits = field(default_factory=lambda: VaultLimits(50 * MEGABYTE, 1024 * MEGABYTE, 0))
    kernel: KernelFeatures = field(default_factory=KernelFeatures)
    failpoints: Failpoints = field(default_factory=FakeFailpoints)
    held_back: int = 0

    def host(self) -> Host:
        """A process's: everything in memory anew."""
        clock, codec = SystemClock(), AvroCodec()
        vault = SystemVault(
            self.vault_path,
            self.limits,
            node_id=NODE,
            signer=FakeSigner(KEY, codec),
            verifier=FakeVerifier(fake_keyset(KEY), codec),
            clock=clock,
            own={},
            held_back=self.held_back,
            kernel=self.kernel,
        )
        return Host(FakeProcesses(FakeClock()), clock, self.failpoints, vault)

    def quarantine(self, path: bytes, *, reviewed: ReviewedFile | None = None, **parameters: Scalar) -> Report:
        """Bind and execute."""
        action = FileQuarantine()
        job = quarantine_job(path, reviewed=reviewed, parameters=parameters)
        return _run(action, job, self.host())

    def restore(self, *, approval_class: str = "two") -> Report:
        """Undo it; class two stands for what two people's signatures will give."""
        return _run(FileUnquarantine(), restore_job(approval_class), self.host())


def quarantine_job(path: bytes, *, reviewed: ReviewedFile | None = None, parameters: Values | None = None) -> Job[Any]:
    """A person's command."""
    given = dict(parameters or {})
    target = FileTarget(path, time.time_ns(), reviewed=reviewed)
    command = _command("file_quarantine", TAKEN, given, target)
    return Job(command, FileQuarantine.parse(given), deadline_ns=time.time_ns() + 60_000_000_000)


def restore_job(approval_class: str = "two") -> Job[Any]:
    """Its undo."""
    command = replace(
        _command("file_unquarantine", BROUGHT_BACK, {}, None), undo_of=TAKEN, approval_class=approval_class
    )
    return Job(command, FileUnquarantine.parse({}), deadline_ns=time.time_ns() + 60_000_000_000)


def recover(action: AnyAction, job: Job[Any], claim: Any, host: Host) -> Report:
    """What the node does with a claimed command after a restart: probe, and run on only where that says so."""
    found = action.probe(job, claim, host)
    return found.report if isinstance(found, Done) else action.execute(job, claim, host)


def metadata(path: bytes) -> dict[str, object]:
    """Every field that has to come back (SAFETY 3.2), without reading the file: that would change its access time."""
    found = os.lstat(path)
    return {
        "mode": found.st_mode,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "size": found.st_size,
        "atime": found.st_atime_ns,
        "mtime": found.st_mtime_ns,
        "attributes": {name: os.getxattr(path, name) for name in os.listxattr(path)},
        "data": data_map(path),
    }


def data_map(path: bytes) -> list[tuple[int, int]]:
    """Where it has data, and where holes begin."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME)
    found: list[tuple[int, int]] = []
    at = 0
    try:
        while True:
            try:
                start = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError:
                return found
            at = os.lseek(descriptor, start, os.SEEK_HOLE)
            found.append((start, at))
    finally:
        os.close(descriptor)


def content(path: bytes) -> bytes:
    """All of it, its access time left alone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def reviewed(path: bytes) -> ReviewedFile:
    """What a person saw."""
    found = os.lstat(path)
    return ReviewedFile(
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        hashlib.sha256(content(path)).hexdigest(),
        found.st_nlink,
    )


def _run(action: AnyAction, job: Job[Any], host: Host) -> Report:
    action.admit(job, host)
    return action.execute(job, action.bind(job, host), host)


def _command(action: str, command_id: ExecutionId, parameters: Values, target: FileTarget | None) -> ActionCommand:
    now = time.time_ns()
    return ActionCommand(
        command_id=command_id,
        node_id=NODE,
        node_key=KeyId("1" * 32),
        incarnation=Incarnation("0d9c1f6e-7d0f-4a7c-9c53-2f2f4f3b1a10"),
        action=action,
        target=target,
        parameters=parameters,
        parameters_sha256=parameters_digest(parameters),
        issued_at_ns=now,
        not_before_ns=now,
        expires_at_ns=now + 300_000_000_000,
        timeout_s=60,
        actor=Actor(ActorKind.PERSON, "ada"),
    )
