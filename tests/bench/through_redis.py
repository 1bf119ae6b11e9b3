"""The peers: Celery and Dramatiq, each on a Redis of its own.

Used by test_full_loop.py; their processes are `peers.py`.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from redis import Redis
from redis.exceptions import ConnectionError as NotThere

from tests.bench.contest import NODES, Ask, Contestant
from tests.bench.peers import DISPATCH, RECORDED, celery_app, node_queue
from tests.bench.through_kafka import SIZE
from tests.kafka.cluster import free_ports


class RedisServer:
    """Debian's, with its append-only file in a directory of ours."""

    def __init__(self, directory: Path, stack: ExitStack, *, sync: str) -> None:
        """`sync` is when its log is synced: `everysec` or `always`."""
        directory.mkdir()
        self.sync = sync
        (self.port,) = free_ports("127.0.0.1", 1)
        program = shutil.which("redis-server") or "redis-server"
        options = [
            "--bind",
            "127.0.0.1",
            "--dir",
            str(directory),
            "--appendonly",
            "yes",
            "--appendfsync",
            sync,
            "--save",
            "",
        ]
        process = subprocess.Popen([program, "--port", str(self.port), *options], stdout=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
        self.client = Redis(port=self.port)
        stack.callback(self.client.close)
        while True:
            try:
                self.version = str(self.client.info("server")["redis_version"])
                return
            except NotThere:
                assert process.poll() is None, "redis-server ended"
                time.sleep(0.05)


class Peer(Contestant):
    """What both have in common: queues in Redis, results on one list."""

    def __init__(self, name: str, kind: str, server: RedisServer, stack: ExitStack) -> None:
        super().__init__()
        self.name = f"{name} + Redis, AOF {server.sync}"
        self._server = server
        self._numbers = itertools.count()
        self.dispatcher = [_process(stack, kind, server.port, DISPATCH)]
        self.nodes = [_process(stack, kind, server.port, node_queue(str(node))) for node in range(NODES)]

    def prepare(self, count: int) -> Sequence[Ask]:
        """Arguments as large as our commands."""
        return [Ask(f"{next(self._numbers)}", number % NODES, b"x" * SIZE) for number in range(count)]

    def recorded(self, timeout_s: float) -> Sequence[str]:
        """What the no-ops pushed."""
        client = self._server.client
        first: Any = client.blpop([RECORDED], timeout=timeout_s) if timeout_s > 0.001 else None
        rest: Any = client.lpop(RECORDED, 5_000) or []
        return [key.decode() for key in ([first[1]] if first else []) + rest]

    def lying(self) -> int:
        """Messages in both nodes' queues."""
        return sum(self.length(node_queue(str(node))) for node in range(NODES))

    def length(self, queue: str) -> int:
        """Of one queue."""
        return int(self._server.client.llen(queue))


class CeleryPeer(Peer):
    """Celery, solo pool."""

    def __init__(self, server: RedisServer, stack: ExitStack) -> None:
        super().__init__("Celery", "celery", server, stack)
        self._app = celery_app(server.port)

    def ask(self, ask: Ask) -> None:
        """One task for the dispatcher."""
        self._app.send_task("dispatch", args=[ask.key, str(ask.node), ask.body.decode()], queue=DISPATCH)


class DramatiqPeer(Peer):
    """Dramatiq, eight threads."""

    def __init__(self, server: RedisServer, stack: ExitStack) -> None:
        super().__init__("Dramatiq", "dramatiq", server, stack)
        self._broker = RedisBroker(host="127.0.0.1", port=server.port, db=1)
        self._broker.declare_queue(DISPATCH)
        self._lists = Redis(port=server.port, db=1)
        stack.callback(self._lists.close)

    def ask(self, ask: Ask) -> None:
        """One message for the dispatcher."""
        arguments = (ask.key, str(ask.node), ask.body.decode())
        self._broker.enqueue(
            dramatiq.Message(queue_name=DISPATCH, actor_name="dispatch", args=arguments, kwargs={}, options={})
        )

    def length(self, queue: str) -> int:
        """Dramatiq keeps its queues under its own names, in a database of its own."""
        return int(self._lists.llen(f"dramatiq:{queue}"))


def _process(stack: ExitStack, kind: str, port: int, queue: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.peers", kind, str(port), queue]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process
