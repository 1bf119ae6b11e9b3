"""How fast the dispatcher turns requests into signed commands and takes results in: real codec, keys and file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.chance import FakeRandomness
from tests.fakes.clock import FakeClock
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.telemetry import FakeTelemetry
from tests.unit.dispatching import ACTIONS, LOG, NODE, an_id, execute
from workers.dispatcher.dispatcher import Dispatcher
from workers.dispatcher.services import Services
from workers.dispatcher.tails import Tails
from workers.domain import policy
from workers.domain.ids import Incarnation, InstanceId
from workers.domain.log import topics
from workers.domain.log.record import LogPosition, Record
from workers.domain.node_state import NodeState
from workers.domain.outcome import Outcome, Stage
from workers.domain.result import ActionResult
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.log.ports import LogWriter
from workers.store.ledger import SqliteLedger
from workers.wire.avro import AvroCodec
from workers.wire.recorder import ChainRecorder
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey


class Nowhere:
    """Takes everything, says nothing."""

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: ()


@pytest.mark.parametrize("batch", [1, 20, 500])
def test_requests_per_second(tmp_path: Path, batch: int) -> None:
    clock, codec = FakeClock(), AvroCodec()
    own, nodes, gateway = (PrivateKey.generate() for _ in range(3))
    keyset = Keyset(
        1,
        1 << 62,
        {
            own.key_id: PublicKey(own.key_id, own.public, KeyRole.DISPATCHER, "dispatcher"),
            nodes.key_id: PublicKey(nodes.key_id, nodes.public, KeyRole.NODE, NODE),
            gateway.key_id: PublicKey(gateway.key_id, gateway.public, KeyRole.GATEWAY, "gateway"),
        },
    )
    signer, node_sealer = EnvelopeSigner(own, codec), EnvelopeSigner(nodes, codec)
    requester = EnvelopeSigner(gateway, codec)
    writer: LogWriter = Nowhere()  # type: ignore[assignment]
    services = Services(
        codec=codec,
        verifier=EnvelopeVerifier(keyset, codec, clock=clock),
        signer=signer,
        recorder=ChainRecorder("dispatcher", signer=signer, codec=codec),
        telemetry=FakeTelemetry(),
        tails=Tails(writer),
        actions=ACTIONS,
        zones={"default": 64},
        silent_after_s=60,
        decide=policy.decide,
    )
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", randomness=FakeRandomness())
    dispatcher = Dispatcher(services, ledger, clock=clock, failpoints=FakeFailpoints())
    born = Incarnation("01890000-0000-4000-8000-000000000001")
    state = NodeState(
        NODE,
        0,
        clock.now_ns(),
        born,
        InstanceId("i"),
        "b",
        "m",
        nodes.key_id,
        ("h",),
        "default",
        "1",
        ("kill",),
        (),
        0,
        0,
        0,
    )
    beat = node_sealer.sign(PayloadType.NODE_STATE, state).value
    dispatcher.take([Record(LogPosition(LOG, topics.NODES, 0), 0, b"", beat)])
    total = 2000 if batch > 1 else 500
    requests = [requester.sign(PayloadType.REQUEST, execute(number)).value for number in range(total)]
    answers = []
    for number in range(total):
        claimed = ActionResult(
            an_id(number, 0), "node", NODE, born, number, 1, 1, Stage.CLAIMED, clock.now_ns(), "kill"
        )
        ended = replace(claimed, seq=2, stage=Stage.ENDED, outcome=Outcome.COMPLETED)
        answers += [node_sealer.sign(PayloadType.RESULT, output).value for output in (claimed, ended)]
    for topic, values in ((topics.REQUESTS_PEOPLE, requests), (topics.RESULTS, answers)):
        place = LogPosition(LOG, topic, 0)
        records = [Record(place, offset, b"", value) for offset, value in enumerate(values)]
        began = time.perf_counter()
        for start in range(0, len(records), batch):
            dispatcher.take(records[start : start + batch])
        took = time.perf_counter() - began
        print(f"\n{topic}, {batch} a commit: {len(records) / took:.0f}/s, {took / len(records) * 1e3:.2f} ms each")
    ledger.close()
