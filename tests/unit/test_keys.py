"""Key directories: made whole or not at all, changed by the operator alone, and every fault one clear line."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import START_NS
from workers.domain.errors import ConfigError
from workers.domain.ids import NodeId
from workers.domain.trust.envelope import PayloadType, signed_bytes
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey, expiry_warning
from workers.wire.keys import (
    add_key,
    add_node,
    ensure_keys,
    init_keys,
    load_keyset,
    load_private_key,
    renew,
    revoke,
    rotate,
)
from workers.wire.keys.installation import RENEW_DAYS, VALID_DAYS
from workers.wire.keys.keyset_document import KeysetFault, signed, verified
from workers.wire.signing import PrivateKey

NODE, OTHER = NodeId("a" * 32), NodeId("b" * 32)
DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    init_keys(directory, now_ns=START_NS, nodes={"node": NODE})
    return directory


def _line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def as_once_made(keys: Path) -> Keyset:
    """Turn a directory into one that was made when responder and gateway were plain workers."""
    once = (KeyRole.GATEWAY, KeyRole.RESPONDER)
    new = load_keyset(keys / "keyset.json")
    old = dataclasses.replace(
        new,
        keys={
            key_id: dataclasses.replace(key, role=KeyRole.WORKER) if key.role in once else key
            for key_id, key in new.keys.items()
        },
    )
    (keys / "keyset.json").write_bytes(signed(old, [load_private_key(keys / "operator.key")]))
    return old


@pytest.mark.parametrize("change", ["start", "renew", "new node"])
def test_an_older_keyset_gets_the_roles_of_this_version_with_its_keys_unchanged(keys: Path, change: str) -> None:
    wanted = load_keyset(keys / "keyset.json").keys
    old = as_once_made(keys)
    match change:
        case "start":
            new = ensure_keys(keys, now_ns=START_NS, nodes={"node": NODE})
        case "renew":
            new = renew(keys, now_ns=START_NS)
        case _:
            new = add_node(keys, name="other", node_id=OTHER)
    assert new.version == old.version + 1
    assert {key_id: new.keys[key_id] for key_id in wanted} == wanted
    assert ensure_keys(keys, now_ns=START_NS, nodes={"node": NODE}).version == new.version


def test_a_name_alone_makes_no_worker_an_operator_or_a_dispatcher(keys: Path) -> None:
    old = load_keyset(keys / "keyset.json")
    workers = {
        key_id: dataclasses.replace(key, role=KeyRole.WORKER) if key.role is KeyRole.DISPATCHER else key
        for key_id, key in old.keys.items()
    }
    operator = load_private_key(keys / "operator.key")
    (keys / "keyset.json").write_bytes(signed(dataclasses.replace(old, keys=workers), [operator]))
    assert ensure_keys(keys, now_ns=START_NS, nodes={"node": NODE}).keys == workers


# Making


def test_every_worker_and_node_gets_a_key_that_the_keyset_knows(keys: Path) -> None:
    keyset = load_keyset(keys / "keyset.json")
    assert keyset.version == 1
    assert keyset.expires_at_ns == START_NS + VALID_DAYS * DAY_NS
    roles = {name: KeyRole(name) for name in ("operator", "dispatcher", "gateway", "responder")}
    for name in ("operator", "dispatcher", "responder", "gateway", "projector"):
        public = keyset.keys[load_private_key(keys / f"{name}.key").key_id]
        assert (public.owner, public.role) == (name, roles.get(name, KeyRole.WORKER))
    node = keyset.keys[load_private_key(keys / "node.key").key_id]
    assert (node.owner, node.role) == (NODE, KeyRole.NODE)
    assert len(keyset.keys) == 6


def test_private_keys_are_for_their_owner_alone(keys: Path) -> None:
    assert keys.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in keys.glob("*.key")} == {0o600}
    assert (keys / "keyset.json").stat().st_mode & 0o777 == 0o644


def test_nothing_is_left_beside_the_directory(keys: Path) -> None:
    assert [path.name for path in keys.parent.iterdir()] == ["keys"]


def test_keys_are_never_made_over_others(keys: Path) -> None:
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    with pytest.raises(ConfigError) as caught:
        init_keys(keys, now_ns=START_NS, nodes={})
    assert "not empty" in _line(caught)
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    init_keys(tmp_path / "keys", now_ns=START_NS, nodes={})
    assert load_keyset(tmp_path / "keys" / "keyset.json").version == 1


@pytest.mark.parametrize("node_id", ["", "web-1", "A" * 32, "a" * 31])
def test_a_name_is_not_a_node_id(tmp_path: Path, node_id: str) -> None:
    with pytest.raises(ConfigError) as caught:
        init_keys(tmp_path / "keys", now_ns=START_NS, nodes={"node": NodeId(node_id)})
    assert "not a node id" in _line(caught)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        init_keys(tmp_path / "file" / "keys", now_ns=START_NS, nodes={})
    assert "cannot be made" in _line(caught)


# Changing


def test_ensuring_twice_changes_nothing(tmp_path: Path) -> None:
    first = ensure_keys(tmp_path / "keys", now_ns=START_NS, nodes={"node": NODE})
    content = (tmp_path / "keys" / "keyset.json").read_bytes()
    assert ensure_keys(tmp_path / "keys", now_ns=START_NS + DAY_NS, nodes={"node": NODE}) == first
    assert (tmp_path / "keys" / "keyset.json").read_bytes() == content


def test_ensuring_renews_what_is_about_to_expire(keys: Path) -> None:
    late = START_NS + (VALID_DAYS - RENEW_DAYS + 1) * DAY_NS
    keyset = ensure_keys(keys, now_ns=late, nodes={"node": NODE})
    assert (keyset.version, keyset.expires_at_ns) == (2, late + VALID_DAYS * DAY_NS)


def test_ensuring_adds_a_node_that_has_no_key_yet(keys: Path) -> None:
    keyset = ensure_keys(keys, now_ns=START_NS, nodes={"node": NODE, "node-2": OTHER})
    assert keyset.version == 2
    assert keyset.keys[load_private_key(keys / "node-2.key").key_id].owner == OTHER


def test_a_key_that_a_crash_left_unpinned_is_used(keys: Path) -> None:
    orphan = PrivateKey.generate()
    (keys / "node-2.key").touch(mode=0o600)
    (keys / "node-2.key").write_bytes(orphan.pem())
    assert add_node(keys, name="node-2", node_id=OTHER).keys[orphan.key_id].owner == OTHER


def test_one_key_is_never_pinned_to_two_nodes(keys: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        add_node(keys, name="node", node_id=OTHER)
    assert "already" in _line(caught)
    assert load_keyset(keys / "keyset.json").version == 1


def test_a_revoked_key_stays_listed(keys: Path) -> None:
    node = load_private_key(keys / "node.key").key_id
    assert revoke(keys, node).keys[node].revoked
    assert load_keyset(keys / "keyset.json").version == 2


def test_a_key_is_revoked_entirely_or_since_a_moment(keys: Path) -> None:
    node = load_private_key(keys / "node.key").key_id
    assert revoke(keys, node, since_ns=START_NS).keys[node].revoked_since_ns == START_NS
    assert load_keyset(keys / "keyset.json").keys[node].revoked_since_ns == START_NS
    assert revoke(keys, node).keys[node].revoked_since_ns == 0


@pytest.mark.parametrize("name", ["node", "gateway", "dispatcher", "operator"])
def test_a_rotated_key_keeps_role_and_owner_and_the_old_one_counts_a_while_longer(keys: Path, name: str) -> None:
    files_before = {path.name for path in keys.iterdir()}
    old = load_private_key(keys / f"{name}.key").key_id
    keyset = rotate(keys, name=name, now_ns=START_NS, overlap_s=60)
    new = load_private_key(keys / f"{name}.key").key_id
    assert new != old
    assert (keyset.keys[new].role, keyset.keys[new].owner) == (keyset.keys[old].role, keyset.keys[old].owner)
    assert not keyset.keys[old].is_revoked(START_NS + 60 * 10**9)
    assert keyset.keys[old].is_revoked(START_NS + 62 * 10**9)
    assert {path.name for path in keys.iterdir()} == files_before | {"versions"}
    assert rotate(keys, name=name, now_ns=START_NS, overlap_s=60).version == 3
    assert renew(keys, now_ns=START_NS).version == 4


@pytest.mark.parametrize("crash_at", ["made", "listed", "replaced"])
def test_a_rotation_that_crashed_is_completed_by_the_next_one_with_one_key_in_all(keys: Path, crash_at: str) -> None:
    old, before = load_private_key(keys / "node.key").pem(), (keys / "keyset.json").read_bytes()
    rotate(keys, name="node", now_ns=START_NS, overlap_s=0)
    new = load_private_key(keys / "node.key")
    if crash_at == "made":
        (keys / "keyset.json").write_bytes(before)
    if crash_at in ("made", "listed"):
        (keys / "node.key").write_bytes(old)
    (keys / ".node.key.next").touch(0o600)
    (keys / ".node.key.next").write_bytes(new.pem())
    keyset = rotate(keys, name="node", now_ns=START_NS, overlap_s=0)
    assert load_private_key(keys / "node.key").key_id == new.key_id
    assert not (keys / ".node.key.next").exists()
    assert keyset.version == 2
    assert [key.key_id for key in keyset.keys.values() if key.owner == NODE and not key.revoked] == [new.key_id]


def test_a_key_that_is_not_trusted_cannot_be_rotated(keys: Path) -> None:
    revoke(keys, load_private_key(keys / "node.key").key_id)
    with pytest.raises(ConfigError) as caught:
        rotate(keys, name="node", now_ns=START_NS, overlap_s=0)
    assert "not trusted" in _line(caught)


def test_further_workers_and_operators_get_keys_of_their_own(keys: Path) -> None:
    keyset = add_key(keys, name="gateway-2", role=KeyRole.GATEWAY, owner="gateway")
    key = load_private_key(keys / "gateway-2.key").key_id
    assert (keyset.keys[key].role, keyset.keys[key].owner) == (KeyRole.GATEWAY, "gateway")
    with pytest.raises(ConfigError, match="already"):
        add_key(keys, name="gateway-2", role=KeyRole.GATEWAY, owner="gateway")


@pytest.mark.parametrize(
    ("left_days", "words"),
    [(61, ""), (60, ""), (59, "within 60 days"), (29, "within 30 days"), (6, "within 7 days"), (-1, "has expired")],
)
def test_the_expiry_is_announced_60_30_and_7_days_before(left_days: int, words: str) -> None:
    warning = expiry_warning(Keyset(3, START_NS + left_days * DAY_NS), START_NS)
    assert words in warning
    assert bool(warning) == bool(words)


def test_the_last_operator_cannot_be_revoked(keys: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        revoke(keys, load_private_key(keys / "operator.key").key_id)
    assert "too few operators" in _line(caught)
    assert load_keyset(keys / "keyset.json").version == 1


def test_without_the_operator_s_key_nothing_changes(keys: Path) -> None:
    (keys / "operator.key").unlink()
    with pytest.raises(ConfigError, match=r"operator\.key"):
        renew(keys, now_ns=START_NS)


def test_an_older_keyset_than_the_one_in_force_is_refused(keys: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_keyset(keys / "keyset.json", at_least=2)
    assert "older than version 2" in _line(caught)


# Trusting


OPERATORS = [PrivateKey.generate() for _ in range(3)]


def _keyset(version: int, *, threshold: int = 1, operators: list[PrivateKey] = OPERATORS, **more: Any) -> Keyset:
    keys = {k.key_id: PublicKey(k.key_id, k.public, KeyRole.OPERATOR, f"operator-{n}") for n, k in enumerate(operators)}
    return Keyset(version, START_NS, keys, threshold, **more)


def test_a_keyset_signed_by_its_operators_is_trusted() -> None:
    assert verified(signed(_keyset(1), OPERATORS[:1])) == _keyset(1)


def test_one_operator_that_signs_twice_counts_once() -> None:
    document = signed(_keyset(1, threshold=2), [OPERATORS[0], OPERATORS[0]])
    with pytest.raises(KeysetFault, match="signed by 1 of its operators, 2"):
        verified(document)
    assert verified(signed(_keyset(1, threshold=2), OPERATORS[:2])).threshold == 2


@pytest.mark.parametrize(("version", "believed"), [(4, False), (5, False), (6, True), (7, False)])
def test_only_the_next_version_may_follow(version: int, believed: bool) -> None:
    document = signed(_keyset(version), OPERATORS[:1])
    if believed:
        assert verified(document, after=_keyset(5)).version == 6
    else:
        with pytest.raises(KeysetFault, match="only version 6 may follow"):
            verified(document, after=_keyset(5))


def test_a_new_version_needs_operators_of_the_old_and_of_the_new() -> None:
    old, new = _keyset(1, operators=OPERATORS[:1]), _keyset(2, operators=OPERATORS[1:])
    with pytest.raises(KeysetFault, match="of its operators"):
        verified(signed(new, OPERATORS[:1]), after=old)
    with pytest.raises(KeysetFault, match="of the last version"):
        verified(signed(new, OPERATORS[1:]), after=old)
    assert verified(signed(new, OPERATORS[:2]), after=old) == new


@pytest.mark.parametrize("change", [{"revoked": True}, {"role": KeyRole.DISPATCHER}, {"role": KeyRole.WORKER}])
def test_only_operators_sign_a_keyset(change: dict[str, Any]) -> None:
    key = OPERATORS[0]
    plain = _keyset(1, operators=[key])
    keyset = dataclasses.replace(plain, keys={key.key_id: dataclasses.replace(plain.keys[key.key_id], **change)})
    with pytest.raises(KeysetFault, match="signed by 0"):
        verified(signed(keyset, [key]))


@given(st.data())
def test_a_keyset_with_one_byte_changed_is_another_or_none(data: st.DataObject) -> None:
    document = bytearray(signed(_keyset(1), OPERATORS[:1]))
    at = data.draw(st.integers(0, len(document) - 1))
    document[at] ^= data.draw(st.integers(1, 255))
    try:
        # JSON allows harmless changes (white space, unknown members); never for another meaning.
        assert verified(bytes(document)) == _keyset(1)
    except KeysetFault:
        return


@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda text: json.dumps(text).encode()))
def test_junk_is_not_a_keyset(junk: bytes) -> None:
    with pytest.raises(KeysetFault):
        verified(junk)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


@given(st.dictionaries(st.sampled_from(["version", "threshold", "expires_at", "keys"]), JSON))
def test_signed_junk_is_not_a_keyset(content: dict[str, Any]) -> None:
    with pytest.raises(KeysetFault):
        verified(_document(json.dumps(content).encode()))


def _edited(change: Callable[[dict[str, Any]], Any]) -> bytes:
    payload = json.loads(base64.b64decode(json.loads(signed(_keyset(1), []))["payload"]))
    change(payload)
    return _document(json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p.update(version=0), "version: .*greater than or equal to 1"),
        (lambda p: p.update(version=True), "version: .*valid integer"),
        (lambda p: p.update(version="1"), "version: .*valid integer"),
        (lambda p: p.update(threshold=0), "threshold: .*greater than or equal to 1"),
        (lambda p: p.update(threshold=4), "4 are needed"),
        (lambda p: p.update(expires_at="2030-01-01T00:00:00"), "expires_at: .*timezone"),
        (lambda p: p.update(expires_at=3), "expires_at: .*valid datetime"),
        (lambda p: p["keys"].append(p["keys"][0]), "twice"),
        (lambda p: p["keys"][0].update(key_id="0" * 32), "keys.0: the fingerprint"),
        (lambda p: p["keys"][0].update(public=base64.b64encode(b"short").decode()), "keys.0: the fingerprint"),
        (lambda p: p["keys"][0].update(role="node"), "keys.0: a node key"),
        (lambda p: p["keys"][0].update(role="god"), "keys.0.role: "),
        (lambda p: p["keys"][0].update(trusted=True), "keys.0.trusted: "),
        (lambda p: p.update(expires="never"), "expires: "),
        (lambda p: p["keys"][0].pop("revoked"), "keys.0.revoked: "),
    ],
)
def test_a_signed_keyset_that_makes_no_sense_is_refused(change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    with pytest.raises(KeysetFault, match=reason):
        verified(_edited(change))


def test_a_document_of_another_type_is_not_a_keyset() -> None:
    document = json.loads(signed(_keyset(1), OPERATORS))
    document["payloadType"] = PayloadType.MANIFEST.value
    with pytest.raises(KeysetFault, match="another type"):
        verified(json.dumps(document).encode())


def test_nesting_without_end_is_one_fault() -> None:
    with pytest.raises(KeysetFault):
        verified(b"[" * 200_000)


def _document(payload: bytes) -> bytes:
    signatures = [
        {"keyid": k.key_id, "sig": base64.b64encode(k.sign(signed_bytes(PayloadType.KEYSET, payload))).decode()}
        for k in OPERATORS
    ]
    outer = {"payloadType": PayloadType.KEYSET.value, "payload": base64.b64encode(payload).decode()}
    return json.dumps({**outer, "signatures": signatures}).encode()


# Files


def _missing(path: Path) -> None:
    path.unlink()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _huge(path: Path) -> None:
    path.write_bytes(b"x" * 70_000)


def _junk(path: Path) -> None:
    path.write_bytes(b"\x00\xff junk")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _public(path: Path) -> None:
    path.write_text("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n")


@pytest.mark.parametrize("damage", [_missing, _directory, _fifo, _huge, _junk, _empty, _public])
def test_a_damaged_private_key_is_one_line_that_names_it(keys: Path, damage: Callable[[Path], None]) -> None:
    path = keys / "node.key"
    damage(path)
    if path.is_file():
        path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load_private_key(path)
    assert _line(caught).startswith(str(path))
    assert "junk" not in str(caught.value)


@pytest.mark.parametrize("damage", [_missing, _directory, _fifo, _junk, _empty])
def test_a_damaged_keyset_is_one_line_that_names_it(keys: Path, damage: Callable[[Path], None]) -> None:
    path = keys / "keyset.json"
    damage(path)
    with pytest.raises(ConfigError) as caught:
        load_keyset(path)
    assert _line(caught).startswith(str(path))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_private_key_that_others_can_reach_is_refused(keys: Path, mode: int) -> None:
    (keys / "node.key").chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load_private_key(keys / "node.key")
    assert "chmod 600" in _line(caught)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_keyset_that_others_can_write_is_refused(keys: Path, mode: int) -> None:
    (keys / "keyset.json").chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load_keyset(keys / "keyset.json")
    assert "chmod go-w" in _line(caught)


def test_a_key_of_another_kind_is_refused(keys: Path) -> None:
    # An X25519 key in PKCS8: the same shape, another algorithm.
    pem = (
        "-----BEGIN PRIVATE KEY-----\n"
        "MC4CAQAwBQYDK2VuBCIEIHgHq/l0jr8gmlRK5n7p3aDt5MRs1t3YmrKzvKjMXFZZ\n"
        "-----END PRIVATE KEY-----\n"
    )
    (keys / "node.key").write_text(pem)
    with pytest.raises(ConfigError) as caught:
        load_private_key(keys / "node.key")
    assert "not an Ed25519" in _line(caught)
