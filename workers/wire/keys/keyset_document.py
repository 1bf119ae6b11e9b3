"""The keyset as a signed file: DSSE in JSON, its payload a JSON object of versions, expiry, threshold and keys.

Called by wiring (``load_keyset``), ``installation`` and ``newest_keyset``. The local file is the root of trust: version
1 is signed by its own operators. A newer version is trusted only by TUF's rule: exactly one more than the last, signed
by a threshold of the operators of both. A fault never quotes the document's content.
"""

import base64
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from workers.domain.errors import ConfigError, Problem
from workers.domain.ids import KeyId, is_node_id, key_id_of
from workers.domain.trust.envelope import PayloadType, signed_bytes
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.wire.keys.files import fault, read_keyset
from workers.wire.signing import PrivateKey, verify
from workers.wire.signing.ed25519 import PUBLIC_BYTES

_NS: Final = 1_000_000_000

M = TypeVar("M", bound=BaseModel)


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("must be base64")  # noqa: TRY004 - pydantic reports a ValueError under its path
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("must be base64") from None


_Bytes = Annotated[bytes, BeforeValidator(_base64)]


class _Signature(BaseModel):
    """One signature. DSSE lets other members stand beside these: they mean nothing here."""

    keyid: str
    sig: _Bytes


class _Signed(BaseModel):
    """The outer document."""

    payload_type: str = Field(alias="payloadType")
    payload: _Bytes
    signatures: list[_Signature]


class _Key(BaseModel):
    """One key of the payload."""

    model_config = ConfigDict(strict=True, extra="forbid")

    key_id: str
    public: _Bytes
    role: KeyRole
    owner: str
    revoked: bool
    revoked_since: AwareDatetime | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "_Key":
        if len(self.public) != PUBLIC_BYTES or self.key_id != key_id_of(self.public):
            raise ValueError("the fingerprint is not that of the key")
        if self.role is KeyRole.NODE and not is_node_id(self.owner):
            raise ValueError("a node key must belong to a node id")
        if self.revoked_since is not None and not self.revoked:
            raise ValueError("revoked_since without revoked")
        return self

    def public_key(self) -> PublicKey:
        since_ns = 0 if self.revoked_since is None else int(self.revoked_since.timestamp()) * _NS
        return PublicKey(KeyId(self.key_id), self.public, self.role, self.owner, self.revoked, since_ns)


class _Payload(BaseModel):
    """What the operators signed."""

    model_config = ConfigDict(strict=True, extra="forbid")

    version: int = Field(ge=1)
    expires_at: AwareDatetime
    threshold: int = Field(ge=1)
    keys: list[_Key]

    @model_validator(mode="after")
    def _each_key_once(self) -> "_Payload":
        if len({key.key_id for key in self.keys}) != len(self.keys):
            raise ValueError("a key is listed twice")
        return self

    def keyset(self) -> Keyset:
        keys = {KeyId(key.key_id): key.public_key() for key in self.keys}
        return Keyset(self.version, int(self.expires_at.timestamp()) * _NS, keys, self.threshold)


def load_keyset(path: Path, *, at_least: int = 1) -> Keyset:
    """The keyset in ``path``, verified. ``at_least`` is the newest version this worker has ever held.

    Raises:
        ConfigError: missing, unreadable, writable by others, not a keyset, not signed, or older than ``at_least``.
    """
    try:
        keyset = verified(read_keyset(path))
    except KeysetFault as error:
        raise ConfigError(tuple(Problem(str(path), reason) for reason in error.reasons)) from None
    if keyset.version < at_least:
        raise fault(path, f"is version {keyset.version}, older than version {at_least} that was in force; restore it")
    return keyset


class KeysetFault(Exception):
    """Why a document is not a keyset to be trusted, without its content; each reason is one line."""

    def __init__(self, *reasons: str, code: str = "not_a_keyset") -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons
        self.code = code


def verified(document: bytes, *, after: Keyset | None = None) -> Keyset:
    """The keyset of a signed document; ``after`` is the one in force that it would follow.

    Raises:
        KeysetFault: not a keyset, wrong version, or not signed by enough operators.
    """
    outer = _read(_Signed, document, "is not a signed keyset (DSSE in JSON)")
    if outer.payload_type != PayloadType.KEYSET.value:
        raise KeysetFault("is a signed document of another type, not a keyset")
    keyset = _read(_Payload, outer.payload, "does not hold a keyset").keyset()
    signers = _signers(outer, keyset)
    if len(signers) < keyset.threshold:
        reason = f"is signed by {len(signers)} of its operators, {keyset.threshold} are needed"
        raise KeysetFault(reason, code="not_signed")
    if after is not None:
        _check_follows(outer, keyset, after)
    return keyset


def has_known_signer(document: bytes, keyset: Keyset) -> bool:
    """Whether an operator that ``keyset`` lists signed a document, whether that key still counts or not."""
    outer = _read(_Signed, document, "is not a signed keyset (DSSE in JSON)")
    return bool(_signers(outer, keyset, once=True))


def _check_follows(outer: _Signed, keyset: Keyset, after: Keyset) -> None:
    if keyset.version != after.version + 1:
        code = "skipped_version" if keyset.version > after.version else "older_version"
        raise KeysetFault(f"is version {keyset.version}; only version {after.version + 1} may follow", code=code)
    known = _signers(outer, after)
    if len(known) < after.threshold:
        reason = f"is signed by {len(known)} operators of the last version, {after.threshold} are needed"
        raise KeysetFault(reason, code="not_signed")
    for key_id, key in after.keys.items():
        if key.revoked and (key_id not in keyset.keys or not keyset.keys[key_id].revoked):
            raise KeysetFault(f"no longer lists key {key_id} as revoked", code="revoked_key_back")


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


def _read(kind: type[M], text: bytes, reason: str) -> M:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise KeysetFault(*(f"{reason}: {_fault(found)}" for found in error.errors(include_input=False))) from None


def _fault(found: Any) -> str:
    path = ".".join(str(part) for part in found["loc"])
    reason = str(found["msg"]).removeprefix("Value error, ")
    return f"{path}: {reason}" if path else reason


def _signers(outer: _Signed, keyset: Keyset, *, once: bool = False) -> frozenset[bytes]:
    """The operators of ``keyset`` whose signature holds, each counted once however often it signed; with ``once`` also
    those that it revokes."""
    covered = signed_bytes(PayloadType.KEYSET, outer.payload)
    found = set()
    for signature in outer.signatures:
        key = keyset.keys.get(KeyId(signature.keyid))
        if key is None or key.role is not KeyRole.OPERATOR or (key.revoked and not once):
            continue
        if verify(key.raw, signature.sig, covered):
            found.add(key.raw)
    return frozenset(found)


def _plain(keyset: Keyset) -> dict[str, Any]:
    return {
        "version": keyset.version,
        "expires_at": _time(keyset.expires_at_ns),
        "threshold": keyset.threshold,
        "keys": [
            {
                "key_id": key.key_id,
                "public": base64.b64encode(key.raw).decode(),
                "role": key.role.value,
                "owner": key.owner,
                "revoked": key.revoked,
                **({"revoked_since": _time(key.revoked_since_ns)} if key.revoked_since_ns else {}),
            }
            for key in keyset.keys.values()
        ],
    }


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // _NS, UTC).isoformat()
