"""A real Kafka cluster of one or three nodes that a test owns and may hurt.

Called by `fixtures.py`, tests and benchmarks; calls `node.py`. It must never leave a process behind:
`stop()` ends every node by its pidfd, and the keepers do it when this process can't.
"""

import base64
import random
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.distribution import SMALL_JVM, Distribution
from tests.kafka.node import Address, KafkaFailed, KafkaNode, node_properties
from tests.kafka.target import KafkaTarget

PORT_TAKEN = "Address already in use"


class KafkaCluster(KafkaTarget):
    """Use as a context manager. Nodes are numbered from 1; a node keeps its ports and its data for life."""

    def __init__(
        self,
        distribution: Distribution,
        *,
        nodes: int = 1,
        host: str = "127.0.0.1",
        overrides: Mapping[str, str] | None = None,
        jvm: Sequence[str] = SMALL_JVM,
        record: Path | None = None,
    ) -> None:
        super().__init__("")
        self._distribution = distribution
        self._count = nodes
        self._host = host
        self._overrides = dict(overrides or {})
        self._jvm = jvm
        self._record = record
        self._directory: Path | None = None
        self._nodes: dict[int, KafkaNode] = {}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def nodes(self) -> Mapping[int, KafkaNode]:
        return self._nodes

    def start(self, within_s: float = 90) -> Self:
        """Format and start all nodes, and wait until each answers a client. Raises KafkaFailed with their logs."""
        for attempt in range(3):
            try:
                self._start_once(within_s)
                return self
            except KafkaFailed as error:
                self.stop()
                if attempt == 2 or PORT_TAKEN not in str(error):
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError("unreachable")

    def _start_once(self, within_s: float) -> None:
        ports = free_ports(self._host, 2 * self._count)
        voters = [Address(n + 1, self._host, ports[2 * n], ports[2 * n + 1]) for n in range(self._count)]
        self.bootstrap_servers = ",".join(address.client for address in voters)
        self._directory = Path(tempfile.mkdtemp(prefix="douse-kafka-"))
        for address in voters:
            directory = self._directory / f"node-{address.node_id}"
            properties = node_properties(address, voters, directory / "data") | self._overrides
            self._nodes[address.node_id] = KafkaNode(
                self._distribution,
                directory,
                address=address,
                properties=properties,
                jvm=self._jvm,
                record=self._record,
            )
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        with ThreadPoolExecutor(self._count) as together:
            for _ in together.map(lambda node: node.format(cluster_id), self._nodes.values()):
                pass
        for node in self._nodes.values():
            node.start()
        self.wait_ready(within_s=within_s)

    def wait_ready(self, nodes: Iterable[int] | None = None, *, within_s: float = 60) -> None:
        """Until each of these nodes (all, unless named) answers a metadata request and lists all of them."""
        wanted = set(nodes or self._nodes)
        deadline = time.monotonic() + within_s
        for number in sorted(wanted):
            self._await_answer(self._nodes[number], wanted, deadline)

    def kill(self, node: int = 1) -> None:
        """SIGKILL: no last words, no flush. What reached the page cache stays."""
        self._nodes[node].kill()

    def pause(self, node: int = 1) -> None:
        """SIGSTOP: the connections stay open and nothing answers."""
        self._nodes[node].pause()

    def resume(self, node: int = 1) -> None:
        self._nodes[node].resume()

    def restart(self, node: int = 1, *, within_s: float = 60) -> None:
        """Start a dead node again, or end a living one in peace first; returns when it answers clients."""
        chosen = self._nodes[node]
        if chosen.running and not chosen.terminate(timeout_s=20):
            chosen.kill()
        chosen.start()
        self.wait_ready([node], within_s=within_s)

    def heal(self) -> None:
        """Make whole what a test left broken: continue the paused, restart the dead, wait for all."""
        for node in self._nodes.values():
            node.resume()
            if not node.running:
                node.start()
        self.wait_ready()

    def stop(self) -> None:
        """End all nodes at once and remove their data. Harmless when called twice."""
        self._admin = None
        for node in self._nodes.values():
            node.close()
        self._nodes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def logs(self) -> str:
        return "\n".join(node.log_tail() for node in self._nodes.values())

    def _await_answer(self, node: KafkaNode, wanted: set[int], deadline: float) -> None:
        # Only this node's address: its first answer can come from nobody else, and a broker opens its
        # clients' port when it has caught up and is unfenced.
        asker = AdminClient(self.client_settings() | {"bootstrap.servers": node.address.client})
        last = "no answer"
        while time.monotonic() < deadline:
            if not node.running:
                raise KafkaFailed(f"node {node.address.node_id} ended while starting\n{node.log_tail()}")
            try:
                seen = set(asker.list_topics(timeout=0.5).brokers)
            except KafkaException as error:
                last = str(error)
            else:
                if wanted <= seen:
                    return
                last = f"it sees nodes {sorted(seen)}"
            time.sleep(0.02)
        raise KafkaFailed(f"node {node.address.node_id} is not ready in time: {last}\n{self.logs()}")


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listens on now, below the range the kernel hands out for outgoing connections.

    Inside that range a port could be taken by any client while its broker is dead, and a client that dials
    a dead port of the range can even be connected to itself.
    """
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(12_000, max(lowest_outgoing, 13_000))
    # Not the seeded generator: two suites that run side by side would pick the same ports.
    chosen: list[int] = []
    for port in random.SystemRandom().sample(candidates, len(candidates)):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise KafkaFailed(f"no {count} free ports on {host} between {candidates.start} and {candidates.stop}")
