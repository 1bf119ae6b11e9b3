"""Makes and changes a key directory: ``operator.key``, one key a worker, one a node, and ``keyset.json``.

Called by ``douse keys`` and ``douse up``. Every version stays in ``versions/``, to be published one after the other: a
worker follows each to the next. Every change is a new keyset version, signed, written in one step; a
crash leaves the old directory or the new one, never a mixture. The operator's key is needed for changes only: move it
away from a machine that others can reach.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Final

from workers.domain.ids import KeyId, NodeId, is_node_id
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.wire.keys import files
from workers.wire.keys.keyset_document import load_keyset, signed
from workers.wire.signing import PrivateKey

KEYSET: Final = "keyset.json"
VERSIONS: Final = "versions"
OPERATOR: Final = "operator"

WORKERS: Final[Mapping[str, KeyRole]] = {
    OPERATOR: KeyRole.OPERATOR,
    "dispatcher": KeyRole.DISPATCHER,
    "responder": KeyRole.RESPONDER,
    "gateway": KeyRole.GATEWAY,
    "projector": KeyRole.WORKER,
}
"""File name (``<name>.key``) and owner to role, nodes apart."""

_ONCE_WORKERS: Final = {name: role for name, role in WORKERS.items() if role in (KeyRole.RESPONDER, KeyRole.GATEWAY)}
"""Names whose keys older keysets list with the role ``worker``."""

_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS

VALID_DAYS: Final = 365
"""How long a keyset vouches; TUF's roots customarily last a year."""

RENEW_DAYS: Final = 90
"""``ensure_keys`` renews a keyset that has fewer days left than this."""


def init_keys(directory: Path, *, now_ns: int, nodes: Mapping[str, NodeId], valid_days: int = VALID_DAYS) -> Keyset:
    """Make all keys and keyset version 1; ``nodes`` maps file names (``<name>.key``) to node ids.

    Raises:
        ConfigError: the directory holds anything already, or cannot be written; or a node id is none.
    """
    bad = sorted(node_id for node_id in nodes.values() if not is_node_id(node_id))
    if bad:
        raise files.fault(directory, f"{bad[0]!r} is not a node id (32 lower-case hex digits)")
    if directory.exists() and any(directory.iterdir()):
        raise files.fault(directory, "is not empty; keys are made only in a new directory")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))  # mode 0700
    except OSError as error:
        raise files.fault(directory, f"cannot be made: {error.strerror}") from error
    try:
        keyset = _fill(fresh, now_ns + valid_days * _DAY_NS, nodes)
        files.sync_directory(fresh)
        os.rename(fresh, directory)  # noqa: PTH104 - replaces an empty directory, as Path.rename would
        files.sync_directory(directory.parent)
    except OSError as error:
        raise files.fault(directory, f"cannot be made: {error.strerror}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return keyset


def ensure_keys(directory: Path, *, now_ns: int, nodes: Mapping[str, NodeId]) -> Keyset:
    """The keyset of a directory that one person alone uses: made if missing, renewed when it is about to expire,
    extended by nodes that have no key yet, and brought to the roles of this version.

    Raises:
        ConfigError: as ``init_keys`` and ``load_keyset``.
    """
    if not directory.exists() or not any(directory.iterdir()):
        return init_keys(directory, now_ns=now_ns, nodes=nodes)
    keyset = load_keyset(directory / KEYSET)
    for name, node_id in nodes.items():
        if not any(key.owner == node_id and not key.revoked for key in keyset.keys.values()):
            keyset = add_node(directory, name=name, node_id=node_id)
    if keyset.expires_at_ns - now_ns < RENEW_DAYS * _DAY_NS or _with_roles(keyset) != keyset:
        keyset = renew(directory, now_ns=now_ns)
    return keyset


def renew(directory: Path, *, now_ns: int, valid_days: int = VALID_DAYS) -> Keyset:
    """The same keys for another ``valid_days``, each with the role that this version gives it.

    Raises:
        ConfigError: no keyset, or no operator key, in the directory.
    """
    return _change(directory, lambda old: changed(old, expires_at_ns=now_ns + valid_days * _DAY_NS))


def add_node(directory: Path, *, name: str, node_id: NodeId) -> Keyset:
    """Make a key for a node, pin the node id to it. A key that a crash left unpinned is used.

    Raises:
        ConfigError: ``<name>.key`` is pinned already, the node id is none, or as ``renew``.
    """
    if not is_node_id(node_id):
        raise files.fault(directory, f"{node_id!r} is not a node id (32 lower-case hex digits)")
    return add_key(directory, name=name, role=KeyRole.NODE, owner=node_id)


def add_key(directory: Path, *, name: str, role: KeyRole, owner: str) -> Keyset:
    """Make a key of a role for a further worker or person. A key that a crash left unlisted is used.

    Raises:
        ConfigError: ``<name>.key`` is in the keyset already, or as ``renew``.
    """
    path = directory / f"{name}.key"
    if not path.exists():
        files.write_new(path, PrivateKey.generate().pem(), mode=0o600)
    key = files.load_private_key(path)
    if key.key_id in load_keyset(directory / KEYSET).keys:
        raise files.fault(path, "is in the keyset already; choose another name")
    public = _public(key, role, owner)
    return _change(directory, lambda old: changed(old, keys={**old.keys, public.key_id: public}))


def rotate(directory: Path, *, name: str, now_ns: int, overlap_s: int) -> Keyset:
    """Replace ``<name>.key`` by a new key with the same role and owner. The old one counts for ``overlap_s`` more, so
    that its worker can be restarted, and as evidence for ever. A rotation that a crash interrupted is completed.

    Raises:
        ConfigError: there is no such key, it is not in the keyset or revoked already, or as ``renew``.
    """
    path, following = directory / f"{name}.key", directory / f".{name}.key.next"
    old_key = files.load_private_key(path)
    keyset = load_keyset(directory / KEYSET)
    if following.exists() and (made := files.load_private_key(following)).key_id in keyset.keys:
        new_key = made
    else:
        listed = keyset.keys.get(old_key.key_id)
        if listed is None or listed.revoked:
            raise files.fault(path, "is not trusted by the keyset; make a key with douse keys add")
        if not following.exists():
            files.write_new(following, PrivateKey.generate().pem(), mode=0o600)
        new_key = files.load_private_key(following)
        public = _public(new_key, listed.role, listed.owner)
        since_ns = (now_ns // _SECOND_NS + 1 + overlap_s) * _SECOND_NS  # a keyset has whole seconds
        retired = changed(listed, revoked=True, revoked_since_ns=since_ns)
        replaced = {old_key.key_id: retired, public.key_id: public}
        also = [new_key] if listed.role is KeyRole.OPERATOR else []
        keyset = _change(directory, lambda old: changed(old, keys={**old.keys, **replaced}), also=also)
    files.replace(path, new_key.pem(), mode=0o600)
    following.unlink()
    files.sync_directory(directory)
    return keyset


def revoke(directory: Path, key_id: KeyId, *, since_ns: int = 0) -> Keyset:
    """No longer trust a key; with ``since_ns``, evidence that it signed before stays valid. The key stays listed, so
    that every worker learns of it.

    Raises:
        ConfigError: no such key, it is the last operator's, or as ``renew``.
    """

    def without(old: Keyset) -> Keyset:
        if key_id not in old.keys:
            raise files.fault(directory / KEYSET, f"has no key {key_id}")
        revoked = changed(old.keys[key_id], revoked=True, revoked_since_ns=since_ns)
        new = changed(old, keys={**old.keys, key_id: revoked})
        left = [key for key in new.keys.values() if key.role is KeyRole.OPERATOR and not key.revoked]
        if len(left) < new.threshold:
            raise files.fault(directory / KEYSET, "would have too few operators left to ever change again")
        return new

    return _change(directory, without)


def leave(directory: Path, node_id: NodeId, *, since_ns: int) -> Keyset:
    """No longer trust any key of a node from that moment on; what they signed before stays valid as evidence. A key
    that is to be revoked later already is revoked now if this moment is earlier.

    Raises:
        ConfigError: no key is the node's, all were revoked before that moment already, or as ``renew``.
    """

    def without(old: Keyset) -> Keyset:
        its = [key for key in old.keys.values() if key.role is KeyRole.NODE and key.owner == node_id]
        counting = [key for key in its if not key.is_revoked(since_ns)]
        if not counting:
            reason = f"has no key of node {node_id}" if not its else f"has revoked node {node_id} already"
            raise files.fault(directory / KEYSET, reason)
        revoked = {key.key_id: changed(key, revoked=True, revoked_since_ns=since_ns) for key in counting}
        return changed(old, keys={**old.keys, **revoked})

    return _change(directory, without)


def _change(directory: Path, change: Callable[[Keyset], Keyset], *, also: Sequence[PrivateKey] = ()) -> Keyset:
    """Write the next version, signed by this directory's operator and by ``also``."""
    path = directory / KEYSET
    old = load_keyset(path)
    operator = files.load_private_key(directory / f"{OPERATOR}.key")
    new = changed(_with_roles(change(old)), version=old.version + 1)
    document = signed(new, [operator, *also])
    _keep_version(directory, old.version, files.read_keyset(path))
    _keep_version(directory, new.version, document)
    files.replace(path, document, mode=0o644)
    return load_keyset(path, at_least=new.version)


def versions(directory: Path) -> Mapping[int, bytes]:
    """The signed document of each version that is known here, by number, up to the present one.

    Raises:
        ConfigError: the keyset of the directory cannot be used.
    """
    path = directory / KEYSET
    newest = load_keyset(path).version
    found = {newest: files.read_keyset(path)}
    for number in range(newest - 1, 0, -1):
        kept = _version(directory, number)
        if not kept.exists():
            break
        found[number] = files.read_keyset(kept)
    return dict(sorted(found.items()))


def _version(directory: Path, number: int) -> Path:
    return directory / VERSIONS / f"{number}.json"


def _keep_version(directory: Path, number: int, document: bytes) -> None:
    path = _version(directory, number)
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise files.fault(path.parent, f"cannot be made: {error.strerror}") from error
    files.replace(path, document, mode=0o644)


def _fill(directory: Path, expires_at_ns: int, nodes: Mapping[str, NodeId]) -> Keyset:
    holders = [(name, role, name) for name, role in WORKERS.items()]
    holders += [(name, KeyRole.NODE, str(node_id)) for name, node_id in nodes.items()]
    keys: dict[KeyId, PublicKey] = {}
    operators = []
    for name, role, owner in holders:
        key = PrivateKey.generate()
        files.write_new(directory / f"{name}.key", key.pem(), mode=0o600)
        keys[key.key_id] = _public(key, role, owner)
        operators += [key] if role is KeyRole.OPERATOR else []
    keyset = Keyset(1, expires_at_ns, keys)
    files.write_new(directory / KEYSET, signed(keyset, operators), mode=0o644)
    return load_keyset(directory / KEYSET)


def _with_roles(keyset: Keyset) -> Keyset:
    """Keysets made before requests were signed name responder and gateway plain workers; their keys stay the same."""
    keys = {
        key_id: changed(key, role=_ONCE_WORKERS[key.owner])
        if key.role is KeyRole.WORKER and key.owner in _ONCE_WORKERS
        else key
        for key_id, key in keyset.keys.items()
    }
    return changed(keyset, keys=keys)


def _public(key: PrivateKey, role: KeyRole, owner: str) -> PublicKey:
    return PublicKey(key.key_id, key.public, role, owner)
