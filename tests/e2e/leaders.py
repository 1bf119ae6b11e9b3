"""Moves the leadership of partitions on a real cluster of three, at once and on purpose.

Used by `test_broker_faults.py`. Two requests of Kafka's admin protocol, written by hand: confluent-kafka has no call
for AlterPartitionReassignments (the same replicas in another order move no data), and in 2.16 its own call for
ElectLeaders (the preferred leader is the first replica) fails in its argument parser.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence

from tests.kafka.cluster import KafkaCluster

ELECT_LEADERS = 43
ALTER_PARTITION_REASSIGNMENTS = 45
_TIMEOUT_MS = 5_000


class Leaders:
    """The leaders of some topics' partitions."""

    def __init__(self, cluster: KafkaCluster, topics: Sequence[str]) -> None:
        self._cluster = cluster
        known = cluster.metadata().topics
        self._replicas: dict[tuple[str, int], list[int]] = {
            (topic, number): list(partition.replicas)
            for topic in topics
            for number, partition in known[topic].partitions.items()
        }
        self._topics = {topic: sorted(n for name, n in self._replicas if name == topic) for topic in topics}
        self.moves = 0

    def move_all(self) -> None:
        """Every partition gets the next of its replicas as leader."""
        for place, replicas in self._replicas.items():
            self._replicas[place] = [*replicas[1:], replicas[0]]
        self._reassign()
        self._elect()
        self.moves += 1

    def led(self) -> Mapping[tuple[str, int], int | None]:
        """Who leads what now."""
        return {place: self._cluster.leader_of(*place) for place in self._replicas}

    def _reassign(self) -> None:
        body = struct.pack(">i", _TIMEOUT_MS) + _count(len(self._topics))
        for topic, numbers in self._topics.items():
            body += _text(topic) + _count(len(numbers))
            for number in numbers:
                replicas = self._replicas[topic, number]
                body += struct.pack(">i", number) + _numbers(replicas) + b"\0"
            body += b"\0"
        self._ask(ALTER_PARTITION_REASSIGNMENTS, 0, body + b"\0")

    def _elect(self) -> None:
        body = b"\0" + _count(len(self._topics))
        for topic, numbers in self._topics.items():
            body += _text(topic) + _numbers(numbers) + b"\0"
        self._ask(ELECT_LEADERS, 2, body + struct.pack(">i", _TIMEOUT_MS) + b"\0")

    def _ask(self, key: int, version: int, body: bytes) -> None:
        host, _, port = self._cluster.bootstrap_servers.split(",")[0].rpartition(":")
        header = struct.pack(">hhih", key, version, 1, -1) + b"\0"
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            answer = _exactly(connection, size)
        # Correlation id, no tags, throttle time, then the error of the whole.
        (error,) = struct.unpack_from(">h", answer, 4 + 1 + 4)
        assert error == 0, f"the cluster refuses request {key}: error {error}"


def _text(text: str) -> bytes:
    return _count(len(text.encode())) + text.encode()


def _numbers(numbers: Sequence[int]) -> bytes:
    return _count(len(numbers)) + b"".join(struct.pack(">i", number) for number in numbers)


def _count(number: int) -> bytes:
    """A compact length: one more than it is, seven bits a byte."""
    number += 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, "the broker hung up"
        data += more
    return data
