"""What the doctor asks of an object store, with the credential that a worker would use.

Called by ``douse doctor``. A node's credential is tried at what it must do and at what it must not. The object of a
trial has a name that follows from nothing but the trial, so that trying again adds none.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from workers.domain.errors import PermanentFailure, WorkerError
from workers.domain.ids import NodeId, id_from_cause
from workers.domain.machine_check import Finding, Level
from workers.domain.pace import Pace
from workers.domain.targets.custody import object_key

if TYPE_CHECKING:
    from workers.settings import NodeIdentity, StorageSettings
    from workers.store.objects.ports import ObjectSource, ObjectStore

_ABOUT: Final = "object store"
_TRIAL: Final = b"douse doctor"
_EXECUTION: Final = id_from_cause(0, "douse doctor")
_STRANGER: Final = NodeId("0" * 32)
"""A node that does not exist: no credential may put anything under its name."""
_NO_HURRY: Final = Pace(lambda: 0, 1)
"""Never over."""
_POLICY: Final = "give the node the policy of README, Object storage"


def node_findings(storage: "StorageSettings", node_id: str) -> Iterator[Finding]:
    """Whether a node can put what it must, and nothing that it must not. Blocks on disk or network.

    Raises:
        ConfigError: a secret or certificate authority cannot be read.
    """
    from workers.host.evidence.sources import BytesSource
    from workers.store.objects.stores import open_store

    store = open_store(storage, NodeId(node_id))
    stranger = open_store(storage, _STRANGER)
    if store is None or stranger is None:
        yield Finding(Level.WARN, _ABOUT, "none is configured, so nothing is gathered here", "set storage")
        return
    source = BytesSource(_TRIAL, hashlib.sha256(_TRIAL).hexdigest())
    key = object_key(NodeId(node_id), _EXECUTION)
    try:
        store.put(key, source, pace=_NO_HURRY)
        yield Finding(Level.OK, _ABOUT, f"the node can put objects under {node_id}/")
        if storage.s3 is not None:
            yield _reading(store, key, source)
            yield _elsewhere(stranger, source)
            yield _uploads(store)
    except WorkerError as error:
        yield Finding(Level.FAIL, _ABOUT, error.message, "check storage: address, bucket, credential, its policy")


def node_id_of(node: "NodeIdentity") -> str:
    """The configured id, or the one that an earlier start kept; empty where the node was never started.

    Raises:
        ConfigError: the kept one cannot be read.
    """
    from workers.host.machine_identity import kept_node_id

    return node.id or kept_node_id(node.data_dir)


def gateway_findings(storage: "StorageSettings") -> Iterator[Finding]:
    """Whether a gateway can read. Blocks on disk or network.

    Raises:
        ConfigError: as ``node_findings``.
    """
    from workers.store.objects.stores import open_reader

    reader = open_reader(storage)
    if reader is None:
        yield Finding(Level.WARN, _ABOUT, "none is configured, so no acquired file can be downloaded", "set storage")
        return
    try:
        found = reader.open(object_key(_STRANGER, _EXECUTION))
        if found is not None:
            found.close()
        yield Finding(Level.OK, _ABOUT, "the gateway can read objects")
    except WorkerError as error:
        yield Finding(
            Level.FAIL,
            _ABOUT,
            error.message,
            "allow the gateway's credential s3:GetObject, and s3:ListBucket: without it a missing object looks refused",
        )


def _reading(store: "ObjectStore", key: str, source: "ObjectSource") -> Finding:
    if store.holds(key, source, pace=_NO_HURRY) is None:
        return Finding(Level.OK, _ABOUT, "the node's credential cannot read objects, as it should be")
    message = "the node's credential can read: whoever takes over this node reads what was acquired"
    return Finding(Level.WARN, _ABOUT, message, _POLICY)


def _elsewhere(stranger: "ObjectStore", source: "ObjectSource") -> Finding:
    try:
        stranger.put(object_key(_STRANGER, _EXECUTION), source, pace=_NO_HURRY)
    except PermanentFailure:
        return Finding(Level.OK, _ABOUT, "the node's credential cannot put under other nodes' names")
    message = (
        "the node's credential can put under other nodes' names: whoever takes over this node forges their evidence"
    )
    return Finding(Level.WARN, _ABOUT, message, _POLICY)


def _uploads(store: "ObjectStore") -> Finding:
    try:
        left = store.unfinished()
    except PermanentFailure:
        message = "the node cannot see its own unfinished uploads, so a crash leaves some behind"
        return Finding(Level.WARN, _ABOUT, message, f"{_POLICY}, or let the bucket end them after a day")
    return Finding(Level.OK, _ABOUT, f"the node sees its own unfinished uploads ({len(left)} now)")
