"""Celery or Dramatiq at work, as a process: the dispatcher, or one of the nodes.

Started as `python -m tests.bench.peers celery|dramatiq PORT QUEUE`. The dispatcher's task sends the no-op to the queue
of the node it is for; the no-op's result is recorded by one push onto a list, which is less than either's own result
store. Each is set up as it was fastest: Celery's solo pool, Dramatiq with eight threads. Celery acknowledges late, as
Dramatiq always does and as we do: a task that a crash interrupted is not lost.
"""

from __future__ import annotations

import sys
import time

from celery import Celery
from dramatiq import Worker, actor, set_broker
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

RECORDED = "recorded"
DISPATCH = "dispatch"


def node_queue(node: str) -> str:
    """A node's own queue."""
    return f"node-{node}"


def celery_app(port: int) -> Celery:
    """The app, for both sides."""
    app = Celery("peers", broker=f"redis://127.0.0.1:{port}/0")
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": 3600},
        task_default_queue=DISPATCH,
    )
    return app


def celery_worker(port: int, queue: str) -> None:
    """Work until killed."""
    app, redis = celery_app(port), Redis(port=port)

    def dispatch(key: str, node: str, body: str) -> None:
        app.send_task("noop", args=[key, body], queue=node_queue(node))

    def noop(key: str, body: str) -> None:
        redis.rpush(RECORDED, key)

    app.task(dispatch, name="dispatch")
    app.task(noop, name="noop")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "error")
    app.worker_main(["worker", "--pool", "solo", "--queues", queue, "--hostname", f"{queue}@bench", *quiet])


def dramatiq_worker(port: int, queue: str) -> None:
    """Work until killed."""
    broker, redis = RedisBroker(host="127.0.0.1", port=port, db=1), Redis(port=port)
    set_broker(broker)

    def noop(key: str, body: str) -> None:
        redis.rpush(RECORDED, key)

    noops = {node: actor(actor_name=f"noop-{node}", queue_name=node_queue(node))(noop) for node in ("0", "1")}

    def dispatch(key: str, node: str, body: str) -> None:
        noops[node].send(key, body)

    actor(actor_name="dispatch", queue_name=DISPATCH)(dispatch)
    Worker(broker, queues={queue, f"{queue}.DQ"}, worker_threads=8).start()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    {"celery": celery_worker, "dramatiq": dramatiq_worker}[sys.argv[1]](int(sys.argv[2]), sys.argv[3])
