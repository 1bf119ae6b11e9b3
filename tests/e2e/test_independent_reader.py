"""Results and audit of the running broker, read with fastavro and `schemas/` and checked with `cryptography` alone."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import fastavro
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.e2e.conftest import NewClient
from tests.e2e.fleet import Fleet
from tests.independent_reader import SCHEMAS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SIGNED: Final = ("response.results", "response.audit", "fleet.nodes")
_ENVELOPE: Final = fastavro.parse_schema(json.loads((SCHEMAS / "envelope.v1.avsc").read_text()))


def envelope_of(value: bytes) -> Mapping[str, Any]:
    """The outer record."""
    read: Any = fastavro.schemaless_reader(io.BytesIO(value[10:]), _ENVELOPE, None)
    return dict(read)


def pae(kind: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding, written down once more."""
    return b" ".join([b"DSSEv1", str(len(kind.encode())).encode(), kind.encode(), str(len(body)).encode(), body])


def public_keys(keyset: Path) -> Mapping[str, tuple[Ed25519PublicKey, str]]:
    """Key id to key and role, out of the keyset's own JSON."""
    payload = json.loads(base64.b64decode(json.loads(keyset.read_text())["payload"]))
    return {
        key["key_id"]: (Ed25519PublicKey.from_public_bytes(base64.b64decode(key["public"])), key["role"])
        for key in payload["keys"]
    }


@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_an_outsider_reads_every_result_and_checks_every_signature_and_chain(
    request: pytest.FixtureRequest, new_client: NewClient, broker: str
) -> None:
    fleet: Fleet = request.getfixturevalue(f"{broker}_fleet")
    client = new_client(fleet)
    client.mixed(20, randomness=random.Random(5))
    client.settled()
    client.judge()

    keys = public_keys(fleet.data.keys / "keyset.json")
    verified: Counter[str] = Counter()
    chains: dict[str, dict[int, tuple[bytes, bytes]]] = defaultdict(dict)
    for topic in SIGNED:
        for record in client.wire.records(topic):
            assert record.read.name != "unreadable", f"{topic}/{record.partition}@{record.offset}"
            outer = envelope_of(record.value)
            key, role = keys[outer["key_id"]]
            key.verify(outer["signature"], pae(outer["payload_type"], outer["payload"]))
            verified[f"{topic} by {role}"] += 1
            if topic == "response.audit":
                output = record.read.fields
                link = (output["previous"], outer["payload"])
                # The very same record may come twice; another under its number is a fork.
                assert chains[output["chain_id"]].setdefault(output["record_no"], link) == link
    links = 0
    for chain_id, records in chains.items():
        assert sorted(records) == list(range(len(records))), f"{chain_id} has a gap"
        previous = bytes(32)
        for number in range(len(records)):
            reported, payload = records[number]
            assert reported == previous, f"{chain_id} breaks at {number}"
            kind = "application/vnd.douse.audit+avro"
            previous = hashlib.sha256(pae(kind, payload) + previous).digest()
            links += 1
    print(f"\n{broker}: verified {dict(sorted(verified.items()))}; {links} links in {len(chains)} chains")
    assert {chain_id.partition("/")[0] for chain_id in chains} >= {"node", "dispatcher", "responder", "gateway"}
    stages = {result["stage"] for result in client.wire.results()}
    assert stages >= {"REQUESTED", "DISPATCHED", "CLAIMED", "ENDED"}
