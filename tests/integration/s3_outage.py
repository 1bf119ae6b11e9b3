"""A real node whose object store becomes unreachable while it gathers, and the kills that it runs meanwhile.

Used by the test of what holds then, and by the measurement of how long a kill takes then. The store is a real S3 server
behind a faulty proxy; the oracle of what arrived is an administrator on the server's own port.
"""

from __future__ import annotations

import hashlib
import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.engines import until
from tests.integration.node_process import NODE, NodeSite, Victim
from tests.s3.proxy import FaultyProxy
from tests.s3.server import ADMIN, S3Server
from workers.domain.command import ActionCommand
from workers.domain.event import ProcessRef
from workers.domain.ids import RANDOM_BYTES, ExecutionId, uuid7
from workers.domain.outcome import Outcome, Stage
from workers.domain.target import FileTarget, ProcessTarget
from workers.domain.targets.custody import custody_key, object_key
from workers.system.randomness import SystemRandomness

SIZE: Final = 6 << 20
"""Bytes of a file that is gathered: two parts."""
_BREAKS_AT: Final = 5_500_000
"""Bytes towards the server: a first part may have arrived, and no object has."""


def _refuse(proxy: FaultyProxy) -> None:
    proxy.mode = "refuse"


def _swallow(proxy: FaultyProxy) -> None:
    proxy.mode = "swallow"


def _slow(proxy: FaultyProxy) -> None:
    proxy.pause_s = 0.2


def _stall(proxy: FaultyProxy) -> None:
    proxy.uploaded, proxy.stall_after = 0, _BREAKS_AT


def _reset(proxy: FaultyProxy) -> None:
    proxy.uploaded, proxy.reset_after = 0, _BREAKS_AT


OUTAGES: Final[Mapping[str, Callable[[FaultyProxy], None]]] = {
    "refuses": _refuse,
    "never answers": _swallow,
    "stalls in a part": _stall,
    "resets in a part": _reset,
    "takes 0.3 MB/s": _slow,
}


def break_off(proxy: FaultyProxy, name: str) -> None:
    """The outage of that name, for connections that are open already too."""
    OUTAGES[name](proxy)
    proxy.cut()


def mend(proxy: FaultyProxy) -> None:
    """All is well again; connections that hung are ended."""
    proxy.mode, proxy.pause_s, proxy.stall_after, proxy.reset_after = "pass", 0.0, 0, 0
    proxy.cut()


@dataclass
class Outage:
    """One node, one store, one proxy between them."""

    site: NodeSite
    server: S3Server
    proxy: FaultyProxy
    directory: Path

    def __post_init__(self) -> None:
        self.prefix = f"t{os.urandom(6).hex()}"
        settings = self.server.settings(NODE, prefix=self.prefix, endpoint=self.proxy.endpoint)
        self.site.storage = {"s3": settings.model_dump(mode="json")}
        self.site.configure()
        self.site.start()
        self.site.up()
        self.admin = self.server.bucket(ADMIN, prefix=self.prefix)
        self.asked: dict[ExecutionId, bytes] = {}
        self._template = self.site.kill(1)

    def restart(self, **settings: int) -> None:
        """The node anew, with settings of its own for this action."""
        assert self.site.stop() == 0
        self.site.actions["file_acquire"] = settings
        self.site.configure()
        self.site.start()
        self.site.up()

    def gather(self, count: int = 3, *, size: int = SIZE, hole: bool = False) -> list[ExecutionId]:
        """Ask for that many files of so many bytes: two threads take them, the others wait."""
        ids = []
        for _ in range(count):
            content = b"" if hole else os.urandom(size)
            path = self.directory / f"file-{len(self.site.accepted)}"
            path.write_bytes(content)
            os.truncate(path, size)
            command = self._fresh(action="file_acquire", target=FileTarget(os.fsencode(path), time.time_ns()))
            self.asked[command.command_id] = content
            self.site.send(command)
            ids.append(command.command_id)
        return ids

    def await_sealed(self, ids: list[ExecutionId], count: int = 2) -> None:
        """Until so many of them are copied and sealed: from here on they are the store's."""
        spool = self.site.directory / "data" / "spool"
        until(lambda: sum(any(spool.glob(f"{each}.[cd][ue]*")) for each in ids) >= count)

    def kill(self) -> float:
        """Milliseconds from the moment before the command is signed and sent to its victim's end."""
        victim = Victim()
        time.sleep(0.03)
        command = self._fresh(target=ProcessTarget((ProcessRef(victim.pid),), observed_at_ns=time.time_ns()))
        held = os.pidfd_open(victim.pid)
        ended = select.poll()
        ended.register(held, select.POLLIN)
        try:
            began = time.perf_counter_ns()
            self.site.send(command)
            assert ended.poll(20_000), "it lives after 20 s"
            return (time.perf_counter_ns() - began) / 1e6
        finally:
            os.close(held)
            victim.bury()

    def unfinished(self, ids: list[ExecutionId]) -> list[ExecutionId]:
        """Which of them have no final outcome yet."""
        ended = {
            result.execution_id
            for result in self.site.read(0.01).results
            if result.stage is Stage.ENDED and result.outcome is not None and result.outcome.is_final
        }
        return [each for each in ids if each not in ended]

    def settle(self) -> None:
        """Until everything that was asked for has arrived: one object each, whole."""
        asked, self.asked = self.asked, {}
        for execution_id, content in asked.items():
            ended = self.site.ended(execution_id, timeout_s=120)
            assert ended.outcome is Outcome.COMPLETED, ended
            key = object_key(NODE, execution_id)
            found = self.admin.get(key)
            assert found is not None
            sha256 = hashlib.sha256(found.read()).hexdigest()
            found.close()
            found.release_conn()
            assert sha256 == hashlib.sha256(content).hexdigest() == ended.outputs["sha256"]
            assert self.admin.head(custody_key(key)) is not None

    def swept(self) -> int:
        """Start the node anew, and wait until its janitor has left no half upload; how many there were: one that
        the server had begun without the node learning of it."""
        there = len(self.admin.uploads(""))
        assert self.site.stop() == 0
        self.site.start()
        self.site.up()
        until(lambda: self.admin.uploads("") == [])
        return there

    def _fresh(self, **more: object) -> ActionCommand:
        now_ns = time.time_ns()
        execution_id = ExecutionId(uuid7(now_ns, SystemRandomness().bytes(RANDOM_BYTES)))
        times = {"issued_at_ns": now_ns, "not_before_ns": now_ns, "expires_at_ns": now_ns + 300_000_000_000}
        return replace(self._template, command_id=execution_id, **{**times, **more})  # type: ignore[arg-type]
