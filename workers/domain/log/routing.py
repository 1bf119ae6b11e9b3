"""Which partition a node's commands travel on.

One function shared by dispatcher and node, so that they can never disagree. Kafka's own murmur2 (the Java client's
default partitioner), so that other clients can compute it too.
"""

from typing import Final

from workers.domain.ids import NodeId

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 of ``data``, as an unsigned number."""
    h = _SEED ^ len(data)
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_for(node_id: NodeId, partitions: int) -> int:
    """The partition of a zone's command topic that carries ``node_id``'s commands.

    Raises:
        ValueError: ``partitions`` is not positive.
    """
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return (murmur2(node_id.encode()) & 0x7FFFFFFF) % partitions


def command_topic(zone: str, generation: int = 1) -> str:
    """The command topic of a zone; growth makes a new generation beside the old one."""
    return f"response.commands.{zone}" if generation == 1 else f"response.commands.{zone}.g{generation}"


def generation_of(topic: str, zone: str) -> int:
    """Which generation of a zone's command topic this is; 0 where it is none of them."""
    if topic == command_topic(zone):
        return 1
    number = topic.removeprefix(f"{command_topic(zone)}.g")
    generation = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
    return generation if generation > 1 and topic == command_topic(zone, generation) else 0
