"""One Kafka node: its settings, its directory, its process.

Called by `cluster.py`; calls `distribution.py` for command lines and `keeper.py` for the process. It must never
know about other nodes beyond the list of voters, nor decide when the cluster is ready.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kafka.distribution import SMALL_JVM, Distribution

KEEPER = Path(__file__).with_name("keeper.py")
COMPLAINT = re.compile(r" (ERROR|FATAL) |Exception: |^Caused by: |^Wrapped by: ")


class KafkaFailed(Exception):
    """A node didn't do what was asked of it; the message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where one node listens: for clients and other brokers, and for the controllers' quorum."""

    node_id: int
    host: str
    client_port: int
    controller_port: int

    @property
    def client(self) -> str:
        return f"{self.host}:{self.client_port}"


def node_properties(address: Address, voters: Sequence[Address], log_dir: Path) -> dict[str, str]:
    """Settings of a combined broker and controller, small and quick to notice a dead neighbour."""
    replicas = str(len(voters))
    majority = str(min(2, len(voters)))
    return {
        "process.roles": "broker,controller",
        "node.id": str(address.node_id),
        "controller.quorum.voters": ",".join(f"{v.node_id}@{v.host}:{v.controller_port}" for v in voters),
        "listeners": f"CLIENT://{address.client},CONTROLLER://{address.host}:{address.controller_port}",
        "advertised.listeners": f"CLIENT://{address.client}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENT",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": majority,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": majority,
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": majority,
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        # A SIGKILLed broker is declared dead after this, and until then can't register again: alone it waits for
        # nothing else when it is restarted. The default of 9 s only makes tests wait.
        "broker.session.timeout.ms": "2000" if len(voters) == 1 else "3000",
        "broker.heartbeat.interval.ms": "400",
        # The default of 128 MiB would be half of the heap.
        "log.cleaner.dedupe.buffer.size": "4194304",
        # Many partitions on a small disk: 10 MiB an index file is sparse, but tmpfs and du don't all know it.
        "log.index.size.max.bytes": "1048576",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
    }


class KafkaNode:
    """One node that can be started and ended any number of times on the same ports and data."""

    def __init__(
        self,
        distribution: Distribution,
        directory: Path,
        *,
        address: Address,
        properties: Mapping[str, str],
        jvm: Sequence[str] = SMALL_JVM,
        record: Path | None = None,
    ) -> None:
        self.address = address
        self.directory = directory
        self.paused = False
        self._distribution = distribution
        self._jvm = jvm
        self._record = record
        self._keeper: subprocess.Popen[bytes] | None = None
        self._broker: int | None = None  # a pidfd: a number could be somebody else's by the time it is used
        self.pid = 0
        directory.mkdir(parents=True)
        self._settings = directory / "server.properties"
        self._settings.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))

    def format(self, cluster_id: str) -> None:
        """Prepare the storage directory. Raises KafkaFailed with the tool's own words."""
        command = self._distribution.command(
            "kafka.tools.StorageTool",
            *("format", "--cluster-id", cluster_id, "--config", str(self._settings)),
            log=self.directory / "format.log",
            jvm=SMALL_JVM,
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.directory)
        if done.returncode:
            raise KafkaFailed(f"node {self.address.node_id}: storage not formatted: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start the process; returns at once, long before the node is ready."""
        if self.running:
            raise KafkaFailed(f"node {self.address.node_id} is running already")
        self._forget()
        command = self._distribution.command(
            "kafka.Kafka", str(self._settings), log=self.directory / "node.log", jvm=self._jvm, record=self._record
        )
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), str(self.directory / "console.log"), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.directory,
            start_new_session=True,  # an interrupt at the terminal ends the tests, and they end the broker
        )
        self._keeper = keeper
        assert keeper.stdout is not None
        line = keeper.stdout.readline()
        if not line:
            raise KafkaFailed(f"node {self.address.node_id}: its keeper ended with {keeper.wait()}")
        self.pid = int(line)
        try:
            self._broker = os.pidfd_open(self.pid)
        except ProcessLookupError as error:
            raise KafkaFailed(f"node {self.address.node_id} ended at once\n{self.log_tail()}") from error

    @property
    def running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    def kill(self) -> None:
        """SIGKILL, then wait until the process is gone. Harmless if it is gone already."""
        self._send(signal.SIGKILL)
        self._await_end(timeout_s=10)

    def terminate(self, timeout_s: float) -> bool:
        """SIGTERM; True if the node ended by itself in time. The caller decides what then."""
        self.resume()
        self._send(signal.SIGTERM)
        return self._await_end(timeout_s=timeout_s)

    def pause(self) -> None:
        self._send(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self._send(signal.SIGCONT)
        self.paused = False

    def resident_bytes(self) -> int:
        """Resident memory of the process now, from /proc; 0 when it isn't running."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log_tail(self, lines: int = 30) -> str:
        """What a person needs to see when the node failed: its complaints first, then the end of its logs."""
        shown: list[str] = []
        for name in ("console.log", "node.log"):
            path = self.directory / name
            if not path.exists():
                continue
            text = path.read_text(errors="replace").splitlines()
            complaints = [line for line in text[:-lines] if COMPLAINT.search(line)][-10:]
            shown += [f"--- node {self.address.node_id}, {name}", *complaints, "[...]", *text[-lines:]]
        return "\n".join(shown)

    def close(self) -> None:
        """End the process and give back every descriptor."""
        self.kill()
        self._forget()

    def _send(self, number: signal.Signals) -> None:
        if self._broker is None:
            return
        try:
            signal.pidfd_send_signal(self._broker, number)
        except ProcessLookupError:
            return

    def _await_end(self, *, timeout_s: float) -> bool:
        if self._keeper is None:
            return True
        try:
            self._keeper.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self.paused = False
        return True

    def _forget(self) -> None:
        if self._broker is not None:
            os.close(self._broker)
            self._broker = None
        if self._keeper is not None:
            for pipe in (self._keeper.stdin, self._keeper.stdout):
                if pipe is not None:
                    pipe.close()
            self._keeper.wait(timeout=10)
            self._keeper = None
        self.paused = False
