"""Topics, schemas and keys as data: what the command line shows and makes of them.

Called by ``douse topics``, ``douse schemas`` and ``douse keys``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers import __version__
from workers.domain.ids import KeyId, NodeId
from workers.domain.log.topic_spec import TopicSpec
from workers.domain.trust.keyset import KeyRole, Keyset


def topic_catalogue() -> Sequence[TopicSpec]:
    """Every topic.

    Raises:
        ConfigError: a file of the catalogue is wrong.
    """
    from workers.log.topic_catalogue import load_topics

    return load_topics()


def topic_table() -> str:
    """The text of ``topics/README.md``.

    Raises:
        ConfigError: as ``topic_catalogue``.
    """
    from workers.log.topic_catalogue import load_topics, readme

    return readme(load_topics())


def asyncapi() -> Mapping[str, Any]:
    """The AsyncAPI document of everything that travels.

    Raises:
        ConfigError: as ``topic_catalogue``, or a schema file is wrong.
    """
    from workers.log.asyncapi import document
    from workers.log.topic_catalogue import load_topics
    from workers.wire.avro.schemas import load_schemas

    return document(load_topics(), load_schemas(), version=__version__)


def schema_faults() -> tuple[Sequence[str], int]:
    """What would break a reader or writer of another version, and how many schemas were compared.

    Raises:
        ConfigError: a schema file is wrong.
    """
    from workers.wire.avro.compatibility import broken_promises
    from workers.wire.avro.schemas import load_schemas

    schemas = load_schemas()
    return broken_promises(schemas), len(schemas.frozen)


def make_keys(directory: Path, nodes: Mapping[str, NodeId]) -> Keyset:
    """A new key directory; ``nodes`` maps file names to node ids.

    Raises:
        ConfigError: it holds anything already, or cannot be written.
    """
    from workers.system.clock import SystemClock
    from workers.wire.keys import init_keys

    return init_keys(directory, now_ns=SystemClock().now_ns(), nodes=nodes)


def known_keys(keyset: Path) -> Keyset:
    """The keyset in a file, its signatures checked.

    Raises:
        ConfigError: it is missing, or does not verify.
    """
    from workers.wire.keys import load_keyset

    return load_keyset(keyset)


def add_key(directory: Path, name: str, role: KeyRole, node_id: NodeId) -> Keyset:
    """A key more; ``node_id`` for a node's. Raises ``ConfigError`` as ``wire.keys.add_key``."""
    from workers.wire.keys import add_key as add
    from workers.wire.keys import add_node

    match role:
        case KeyRole.NODE:
            return add_node(directory, name=name, node_id=node_id)
        case KeyRole.OPERATOR:
            return add(directory, name=name, role=role, owner=name)
        case KeyRole.WORKER:
            return add(directory, name=name, role=role, owner="projector")
        case _:  # audit chains are named after the worker, however many there are
            return add(directory, name=name, role=role, owner=role.value)


def renew_keys(directory: Path, days: int) -> Keyset:
    """The same keys for longer. Raises ``ConfigError`` as ``wire.keys.renew``."""
    from workers.system.clock import SystemClock
    from workers.wire.keys import renew

    return renew(directory, now_ns=SystemClock().now_ns(), valid_days=days)


def rotate_key(directory: Path, name: str, overlap_s: int) -> Keyset:
    """A new key in the place of one, which counts for ``overlap_s`` more. Raises ``ConfigError`` as
    ``wire.keys.rotate``."""
    from workers.system.clock import SystemClock
    from workers.wire.keys import rotate

    return rotate(directory, name=name, now_ns=SystemClock().now_ns(), overlap_s=overlap_s)


def revoke_key(directory: Path, key_id: KeyId, since_ns: int) -> Keyset:
    """Without one key. Raises ``ConfigError`` as ``wire.keys.revoke``."""
    from workers.wire.keys import revoke

    return revoke(directory, key_id, since_ns=since_ns)


def remove_node(directory: Path, node_id: NodeId, since_ns: int) -> Keyset:
    """Without a node from that moment on. Raises ``ConfigError`` as ``wire.keys.leave``."""
    from workers.wire.keys import leave

    return leave(directory, node_id, since_ns=since_ns)
