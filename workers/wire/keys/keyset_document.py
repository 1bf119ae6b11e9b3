"""The keyset as a signed file: DSSE in JSON, its payload a JSON object of versions, expiry, threshold and keys.

Called by wiring (``load_keyset``) and by ``installation``. The local file is the root of trust: version 1 is signed
by its own operators. A newer version is believed only by TUF's rule: exactly one more than the last, signed by a
threshold of the operators of both.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from workers.domain.ids import KeyId, is_node_id, key_id_of
from workers.domain.trust.envelope import PayloadType, signed_bytes
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.wire.keys.files import fault, read_keyset
from workers.wire.signing import PrivateKey, verify

_UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
_NS: Final = 1_000_000_000


def load_keyset(path: Path, *, at_least: int = 1) -> Keyset:
    """The keyset in ``path``, verified. ``at_least`` is the newest version this worker has ever held.

    Raises:
        ConfigError: missing, unreadable, writable by others, not a keyset, not signed, or older than ``at_least``.
    """
    try:
        keyset = verified(read_keyset(path))
    except KeysetFault as error:
        raise fault(path, str(error)) from None
    if keyset.version < at_least:
        raise fault(path, f"is version {keyset.version}, older than version {at_least} that was in force; restore it")
    return keyset


class KeysetFault(Exception):
    """Why a document is not a keyset to be trusted, as one line without its content."""


def verified(document: bytes, *, after: Keyset | None = None) -> Keyset:
    """The keyset of a signed document; ``after`` is the one in force that it would follow.

    Raises:
        KeysetFault: not a keyset, wrong version, or not signed by enough operators.
    """
    payload, signatures = _unwrap(document)
    keyset = _parse(payload)
    signers = _signers(payload, signatures, keyset)
    if len(signers) < keyset.threshold:
        raise KeysetFault(f"is signed by {len(signers)} of its operators, {keyset.threshold} are needed")
    if after is not None:
        if keyset.version != after.version + 1:
            raise KeysetFault(f"is version {keyset.version}; only version {after.version + 1} may follow")
        known = _signers(payload, signatures, after)
        if len(known) < after.threshold:
            raise KeysetFault(f"is signed by {len(known)} operators of the last version, {after.threshold} are needed")
    return keyset


def signed(keyset: Keyset, operators: Iterable[PrivateKey]) -> bytes:
    """The document of a keyset, signed by each of ``operators``."""
    payload = json.dumps(_plain(keyset), indent=1).encode()
    covered = signed_bytes(PayloadType.KEYSET, payload)
    document = {
        "payloadType": PayloadType.KEYSET.value,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key.key_id, "sig": base64.b64encode(key.sign(covered)).decode()} for key in operators],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _unwrap(document: bytes) -> tuple[bytes, Sequence[tuple[str, bytes]]]:
    try:
        outer = json.loads(document)
        kind = outer["payloadType"]
        payload = base64.b64decode(outer["payload"], validate=True)
        signatures = [(str(s["keyid"]), base64.b64decode(s["sig"], validate=True)) for s in outer["signatures"]]
    except _UNREADABLE:
        raise KeysetFault("is not a signed keyset (DSSE in JSON)") from None
    if kind != PayloadType.KEYSET.value:
        raise KeysetFault("is a signed document of another type, not a keyset")
    return payload, signatures


def _signers(payload: bytes, signatures: Iterable[tuple[str, bytes]], keyset: Keyset) -> frozenset[bytes]:
    """The operators of ``keyset`` whose signature holds, each counted once however often it signed."""
    covered = signed_bytes(PayloadType.KEYSET, payload)
    found = set()
    for key_id, signature in signatures:
        key = keyset.keys.get(KeyId(key_id))
        if key is None or key.role is not KeyRole.OPERATOR or key.revoked:
            continue
        if verify(key.raw, signature, covered):
            found.add(key.raw)
    return frozenset(found)


def _parse(payload: bytes) -> Keyset:
    try:
        plain = json.loads(payload)
        keys = [_key(entry) for entry in plain["keys"]]
        version, threshold = _count(plain["version"]), _count(plain["threshold"])
        expires = datetime.fromisoformat(plain["expires_at"])
        if expires.tzinfo is None:
            raise KeysetFault("has an expires_at without a time zone")
        expires_at_ns = int(expires.timestamp()) * _NS
    except _UNREADABLE as error:
        raise KeysetFault(f"does not hold a keyset ({type(error).__name__} while reading it)") from None
    if len({key.key_id for key in keys}) != len(keys):
        raise KeysetFault("names one key twice")
    return Keyset(version, expires_at_ns, {key.key_id: key for key in keys}, threshold)


def _key(entry: Mapping[str, Any]) -> PublicKey:
    raw = base64.b64decode(entry["public"], validate=True)
    key = PublicKey(KeyId(entry["key_id"]), raw, KeyRole(entry["role"]), str(entry["owner"]), bool(entry["revoked"]))
    if len(raw) != 32 or key.key_id != key_id_of(raw):
        raise KeysetFault("names a key whose fingerprint is not its own")
    if key.role is KeyRole.NODE and not is_node_id(key.owner):
        raise KeysetFault("pins a node key to something that is no node id")
    return key


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise KeysetFault("has a version or threshold that is not a positive number")
    return value


def _plain(keyset: Keyset) -> dict[str, Any]:
    expires = datetime.fromtimestamp(keyset.expires_at_ns // _NS, UTC)
    return {
        "version": keyset.version,
        "expires_at": expires.isoformat(),
        "threshold": keyset.threshold,
        "keys": [
            {
                "key_id": key.key_id,
                "public": base64.b64encode(key.raw).decode(),
                "role": key.role.value,
                "owner": key.owner,
                "revoked": key.revoked,
            }
            for key in keyset.keys.values()
        ],
    }
