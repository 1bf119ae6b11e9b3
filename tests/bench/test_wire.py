"""What a record costs on its way: encoding, signing, verifying, decoding, chaining, tracing."""

from __future__ import annotations

import io
import time
import timeit
from collections.abc import Callable
from typing import Any

from tests.fakes.clock import FakeClock
from tests.fakes.outbox import RecordedOutbox
from workers.domain.command import ActionCommand
from workers.domain.event import ProcessRef
from workers.domain.ids import EventId, ExecutionId, Incarnation, NodeId
from workers.domain.outcome import Outcome, PostCondition, Stage
from workers.domain.request import ActionRequest, Actor, ActorKind, Causation, Step, Verb
from workers.domain.result import ActionResult
from workers.domain.target import ProcessTarget
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole, Keyset, PublicKey
from workers.system.logs import StructuredLog
from workers.system.telemetry.quiet import QuietTelemetry
from workers.wire.avro import AvroCodec
from workers.wire.recorder import ChainRecorder
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier, PrivateKey

CODEC = AvroCodec()
KEY = PrivateKey.generate()
TRUST = Keyset(1, 1 << 62, {KEY.key_id: PublicKey(KEY.key_id, KEY.public, KeyRole.DISPATCHER, "dispatcher")})
SEALER = EnvelopeSigner(KEY, CODEC)
OPENER = EnvelopeVerifier(TRUST, CODEC, clock=FakeClock())
NODE = NodeId("a" * 32)
ID = ExecutionId("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")

COMMAND = ActionCommand(
    command_id=ID,
    node_id=NODE,
    node_key=KEY.key_id,
    incarnation=Incarnation(ID),
    action="kill_process",
    target=ProcessTarget(tuple(ProcessRef(n, n, "/usr/bin/x", "x", "x -y") for n in range(4)), 5),
    parameters={"ancestor": 0},
    parameters_sha256="0" * 64,
    issued_at_ns=1,
    not_before_ns=1,
    expires_at_ns=2,
    timeout_s=60,
    actor=Actor(ActorKind.RULE, "rule"),
    causation=Causation(EventId("e"), "rule"),
)
RESULT = ActionResult(
    execution_id=ID,
    producer="node",
    node_id=NODE,
    incarnation=Incarnation(ID),
    record_no=1,
    attempt=1,
    seq=2,
    stage=Stage.ENDED,
    at_ns=1,
    action="kill_process",
    outcome=Outcome.COMPLETED,
    code="kill_process_success_killed",
    outputs={"pid": 4711, "identity": "pid_before_event"},
    post_condition=PostCondition("process_gone", holds=True),
)


REQUEST = ActionRequest(
    Verb.EXECUTE, 1, Actor(ActorKind.RULE, "rule"), NODE, (Step(ID, "kill_process", COMMAND.target, {"ancestor": 0}),)
)


def _us(work: Callable[[], Any], *, number: int = 2_000) -> float:
    """Microseconds of processor time, the best of five: what the work costs, whoever else is at work."""
    return min(timeit.repeat(work, timer=time.process_time, number=number, repeat=5)) / number * 1e6


def test_what_a_record_costs() -> None:
    payload = CODEC.encode(COMMAND)
    value = SEALER.sign(PayloadType.COMMAND, COMMAND).value
    recorder = ChainRecorder("node", signer=SEALER, codec=CODEC)
    telemetry = QuietTelemetry(StructuredLog("json", stream=io.StringIO()))

    def traced() -> None:
        with telemetry.span("execute kill_process") as span:
            span.headers()

    figures = {
        "encode a command": _us(lambda: CODEC.encode(COMMAND)),
        "decode a command": _us(lambda: CODEC.decode(payload, ActionCommand)),
        "seal a command": _us(lambda: SEALER.sign(PayloadType.COMMAND, COMMAND)),
        "open a command": _us(lambda: OPENER.verify(value, PayloadType.COMMAND, ActionCommand)),
        "write a result": _us(lambda: recorder.result(RecordedOutbox(), RESULT)),
        "write an audit record": _us(lambda: recorder.audit(RecordedOutbox(), "intent", at_ns=1, detail={"pid": 1})),
        "a span without an endpoint": _us(traced),
        "a log line": _us(lambda: telemetry.log("claimed", execution_id=ID, attempt=1)),
    }
    print(f"\na command is {len(payload)} bytes, its envelope {len(value)}")
    for what, us in figures.items():
        print(f"{what:28} {us:8.1f} µs")
    # A burst of 10,000 commands is to be taken in within a minute: opening may cost a tenth of that.
    assert figures["open a command"] < 600


def test_what_signing_adds_to_a_request() -> None:
    plain, signed = CODEC.encode(REQUEST), SEALER.sign(PayloadType.REQUEST, REQUEST).value
    encode, decode = _us(lambda: CODEC.encode(REQUEST)), _us(lambda: CODEC.decode(plain, ActionRequest))
    sign = _us(lambda: SEALER.sign(PayloadType.REQUEST, REQUEST)) - encode
    verify = _us(lambda: OPENER.verify(signed, PayloadType.REQUEST, ActionRequest)) - decode
    print(f"\na request: signing adds {sign:.0f} us, verifying {verify:.0f} us, {sign + verify:.0f} us in all", end="")
    print(f" and {len(signed) - len(plain)} bytes to {len(plain)}; encode {encode:.0f} us, decode {decode:.0f} us")
