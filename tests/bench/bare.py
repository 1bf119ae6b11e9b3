"""One hop of a bare Kafka loop, as a process: reads a partition, writes what it read to the next one. Nothing else.

Started as `python -m tests.bench.bare SERVERS FETCH_WAIT_MS TOPIC PARTITION NEXT`, where NEXT is a topic with the same
partition, `topic:*` for the partition that the record's first byte names, or `kill`: then the record is a pid, which
dies.
The clients' settings are those of our own workers. Prints "ready" once it reads.
"""

from __future__ import annotations

import os
import signal
import sys

from confluent_kafka import Consumer, Producer, TopicPartition

from workers.log.config import reader_config, writer_config
from workers.settings import KafkaSecurity, KafkaSettings


def main() -> None:
    servers, fetch_wait_ms, topic, partition, onward = sys.argv[1:]
    settings = KafkaSettings(
        bootstrap_servers=servers,
        security=KafkaSecurity(protocol="PLAINTEXT"),
        insecure_dev=True,
        fetch_wait_ms=int(fetch_wait_ms),
    )
    reader = Consumer(reader_config(settings) | {"auto.offset.reset": "latest", "enable.partition.eof": False})
    reader.list_topics(topic, timeout=20)
    _, end = reader.get_watermark_offsets(TopicPartition(topic, int(partition)), timeout=20)
    reader.assign([TopicPartition(topic, int(partition), end)])
    writer = Producer(writer_config(settings))
    reader.poll(0.2)
    print("ready", flush=True)
    to, _, rule = onward.partition(":")
    while True:
        message = reader.poll(0.25)
        while message is not None:
            value = message.value() or b""
            if to == "kill":
                _kill(int(value))
            else:
                writer.produce(to, value, message.key(), value[0] - ord("0") if rule == "*" else int(partition))
            writer.poll(0)
            message = reader.poll(0)


def _kill(pid: int) -> None:
    held = os.pidfd_open(pid)
    signal.pidfd_send_signal(held, signal.SIGKILL)
    os.close(held)


if __name__ == "__main__":
    main()
