"""The newest keyset that a worker has seen: TUF's rules, kept across restarts, never taken back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.clock import START_NS
from workers.domain.errors import ConfigError
from workers.domain.ids import NodeId
from workers.domain.trust.keyset import left_at_ns, left_nodes
from workers.wire.keys import (
    KeysetFault,
    NewestKeyset,
    add_node,
    init_keys,
    leave,
    load_keyset,
    load_private_key,
    renew,
    revoke,
    rotate,
    versions,
)
from workers.wire.keys.keyset_document import signed

NODE = NodeId("a" * 32)


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    init_keys(tmp_path / "operator", now_ns=START_NS, nodes={"node": NODE})
    return tmp_path / "operator"


@pytest.fixture
def worker(tmp_path: Path, operator: Path) -> Path:
    path = tmp_path / "worker" / "keyset.json"
    path.parent.mkdir()
    path.write_bytes((operator / "keyset.json").read_bytes())
    return path


def document(operator: Path) -> bytes:
    return (operator / "keyset.json").read_bytes()


def refusal(newest: NewestKeyset, value: bytes) -> str:
    before = newest.keyset
    with pytest.raises(KeysetFault) as fault:
        newest.take(value)
    assert newest.keyset is before
    return fault.value.code


def test_a_worker_three_versions_behind_walks_the_chain_across_an_operators_rotation(
    operator: Path, worker: Path
) -> None:
    renew(operator, now_ns=START_NS)
    rotate(operator, name="operator", now_ns=START_NS, overlap_s=0)
    renew(operator, now_ns=START_NS)
    chain = versions(operator)
    assert list(chain) == [1, 2, 3, 4]
    newest, taken = NewestKeyset(worker), []
    newest.changed = lambda keyset: taken.append(keyset.version)
    assert refusal(NewestKeyset(worker), chain[4]) == "skipped_version"
    for value in chain.values():
        newest.take(value)
        newest.take(value)  # the log delivers at least once
    assert taken == [2, 3, 4]
    again = NewestKeyset(worker)
    assert again.keyset == load_keyset(operator / "keyset.json")
    for value in chain.values():  # every start reads the topic from its beginning
        again.take(value)


def test_versions_out_of_order_are_followed_once_their_turn_comes(operator: Path, worker: Path) -> None:
    renew(operator, now_ns=START_NS)
    renew(operator, now_ns=START_NS)
    chain, newest = versions(operator), NewestKeyset(worker)
    assert refusal(newest, chain[3]) == "skipped_version"
    newest.take(chain[2])
    assert newest.keyset.version == 3


def test_an_older_version_is_refused_also_when_it_is_put_back_as_the_file(operator: Path, worker: Path) -> None:
    first = document(operator)
    renew(operator, now_ns=START_NS)
    newest = NewestKeyset(worker)
    newest.take(document(operator))
    assert refusal(newest, first) == "older_version"
    worker.write_bytes(first)
    assert NewestKeyset(worker).keyset.version == 2


def test_a_revoked_key_never_comes_back(operator: Path, worker: Path) -> None:
    node = load_private_key(operator / "node.key").key_id
    keyset = revoke(operator, node, since_ns=START_NS)
    assert left_at_ns(keyset, NODE) == START_NS
    newest = NewestKeyset(worker)
    newest.take(document(operator))
    signer = load_private_key(operator / "operator.key")
    believed = {**keyset.keys, node: replace(keyset.keys[node], revoked=False, revoked_since_ns=0)}
    forgotten = {key_id: key for key_id, key in keyset.keys.items() if key_id != node}
    for keys in (believed, forgotten):
        assert refusal(newest, signed(replace(keyset, version=3, keys=keys), [signer])) == "revoked_key_back"
    add_node(operator, name="again", node_id=NODE)
    newest.take(document(operator))
    assert left_at_ns(newest.keyset, NODE) is None


def test_a_node_leaves_with_all_its_keys_and_an_earlier_moment_replaces_a_later_one(operator: Path) -> None:
    add_node(operator, name="second", node_id=NODE)
    later, now = START_NS + 3_600 * 10**9, START_NS
    assert left_nodes(leave(operator, NODE, since_ns=later)) == {NODE: later}
    keyset = leave(operator, NODE, since_ns=now)
    assert left_nodes(keyset) == {NODE: now}
    assert sum(key.revoked for key in keyset.keys.values()) == 2
    for node in (NODE, NodeId("b" * 32)):
        with pytest.raises(ConfigError):
            leave(operator, node, since_ns=later)
    assert load_keyset(operator / "keyset.json") == keyset


def test_a_key_that_was_revoked_as_operator_signs_no_next_version(operator: Path, worker: Path) -> None:
    old = load_private_key(operator / "operator.key")
    rotate(operator, name="operator", now_ns=START_NS, overlap_s=0)
    newest = NewestKeyset(worker)
    newest.take(document(operator))
    assert refusal(newest, signed(replace(newest.keyset, version=3), [old])) == "not_signed"


def test_a_version_that_cannot_be_kept_counts_and_is_reported(operator: Path, worker: Path) -> None:
    renew(operator, now_ns=START_NS)
    newest = NewestKeyset(worker, worker.parent / "no such directory" / "newest.json")
    with pytest.raises(ConfigError):
        newest.take(document(operator))
    assert newest.keyset.version == 2


def test_a_damaged_file_of_the_newest_version_stops_the_start(operator: Path, worker: Path) -> None:
    renew(operator, now_ns=START_NS)
    NewestKeyset(worker).take(document(operator))
    kept = worker.with_name("keyset.newest.json")
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"keyset\.newest\.json"):
        NewestKeyset(worker)
