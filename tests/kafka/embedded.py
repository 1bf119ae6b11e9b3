"""The embedded broker with the faults librdkafka's mock cluster can play.

Used by tests only. What it cannot do (fencing, compaction, durability) is tested on a real Kafka.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from workers.log.embedded import EmbeddedBroker, load_library

PRODUCE = 0
FETCH = 1
INIT_PRODUCER_ID = 22

_KNOBS = {
    "rd_kafka_mock_broker_set_down": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int32)),
    "rd_kafka_mock_broker_set_up": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int32)),
    "rd_kafka_mock_broker_set_rtt": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int32, ctypes.c_int)),
    "rd_kafka_mock_partition_set_leader": (
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32),
    ),
    "rd_kafka_mock_push_request_errors_array": (
        None,
        (ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)),
    ),
}


class FaultyBroker(EmbeddedBroker):
    """An embedded broker that a test may hurt."""

    def down(self) -> None:
        """Cut every connection and take no new ones, until `up`."""
        self._knob().rd_kafka_mock_broker_set_down(self._open(), -1)

    def up(self) -> None:
        self._knob().rd_kafka_mock_broker_set_up(self._open(), -1)

    def delay(self, milliseconds: int) -> None:
        """Answer everything that much later."""
        self._knob().rd_kafka_mock_broker_set_rtt(self._open(), -1, milliseconds)

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker (from 1) the partition's leader; -1 leaves it without one."""
        self._knob().rd_kafka_mock_partition_set_leader(self._open(), topic.encode(), partition, broker)

    def fail(self, request: int, errors: Sequence[int]) -> None:
        """Answer the next requests of a kind (`PRODUCE`, `FETCH`, `INIT_PRODUCER_ID`) with these Kafka error codes."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._knob().rd_kafka_mock_push_request_errors_array(self._open(), request, len(errors), codes)

    def _knob(self) -> ctypes.CDLL:
        return load_library(_KNOBS)
