"""A gateway on fakes: the real application and intake, a log and a history in memory, and a stand-in for the projector.

    gateway = FakeGateway()
    answer = gateway.post("/api/v1/executions", json={...})

With `folds=False` history never has the requests. `requests` and `events` are what the log has, decoded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, TypeVar

import httpx

from tests.fakes.bus import FakeBus
from tests.fakes.chance import FakeRandomness
from tests.fakes.clock import FakeClock
from tests.fakes.codec import FakeCodec
from tests.fakes.object_store import FakeObjectStore
from tests.fakes.outbox import RecordedOutbox
from tests.fakes.signing import FakeSigner, FakeVerifier, fake_key, fake_keyset
from tests.fakes.stores import MemoryHistory
from tests.fakes.telemetry import FakeTelemetry
from workers.actions import CATALOGUE
from workers.actions.base import AnyAction
from workers.domain.errors import TransientFailure
from workers.domain.event import RuntimeEvent
from workers.domain.log import topics
from workers.domain.log.record import OutRecord
from workers.domain.request import ActionRequest
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import PayloadType
from workers.domain.trust.keyset import KeyRole
from workers.gateway.audit_trail import AuditTrail
from workers.gateway.http.app import build
from workers.gateway.intake import GatewayIntake
from workers.gateway.permissions import ADMIN
from workers.gateway.principals import Principal, RateLimit, Tokens
from workers.gateway.requests import expected_execution
from workers.wire.event_reader import alerts_in
from workers.wire.ports import Codec
from workers.wire.recorder import ChainRecorder

T = TypeVar("T")

TOKEN = "a token for tests"


class FakeGateway:
    """Everything behind one ASGI application."""

    def __init__(
        self,
        *,
        a_minute: int = 1_000_000,
        folds: bool = True,
        codec: Codec | None = None,
        token: str = TOKEN,
        person: Principal = ADMIN,
        stores: bool = True,
        catalogue: Sequence[AnyAction] = CATALOGUE,
        expires_at_ns: int = 1 << 62,
    ) -> None:
        self.clock = FakeClock()
        self.telemetry = FakeTelemetry()
        self.history = MemoryHistory()
        self.bus = FakeBus({topics.RUNTIME_EVENTS: 3, topics.REQUESTS_PEOPLE: 3})
        self.codec = codec if codec is not None else FakeCodec()
        self.outbox = RecordedOutbox("gateway/test")
        self.folds = folds
        self.objects = FakeObjectStore()
        self.written: list[OutRecord] = []
        own = fake_key("gateway", KeyRole.GATEWAY)
        signer = FakeSigner(own)
        self.verifier = FakeVerifier(fake_keyset(own), self.codec)
        self.trail = AuditTrail(
            ChainRecorder("gateway", signer=signer, codec=FakeCodec()), self.outbox.begin, self.clock
        )
        self.intake = GatewayIntake(
            history=self.history,
            catalogue={action.name: action for action in catalogue},
            append=self.append,
            split=alerts_in,
            signer=FakeSigner(own, self.codec),
            trail=self.trail,
            telemetry=self.telemetry,
            clock=self.clock,
            randomness=FakeRandomness(),
            objects=self.objects if stores else None,
        )
        self.app = build(
            self.intake,
            tokens=Tokens({sha256(token.encode()).hexdigest(): person}),
            limit=RateLimit(a_minute, self.clock),
            signer=lambda signed: "",
            keyset=lambda: fake_keyset(own, expires_at_ns=expires_at_ns),
            fold_wait_s=0.05,
        )
        self._writer = self.bus.writer()

    def append(self, records: Sequence[OutRecord]) -> None:
        """What the loop's appender does, and what dispatcher and projector would do next."""
        for token, record in enumerate(records):
            self._writer.send(record, token=token)
        self._writer.flush(0)
        if any(not ack.ok for ack in self._writer.acks()) or self.bus.is_down:
            raise TransientFailure("the log is unavailable", code="log_away")
        self.written += records
        if self.folds:
            for request in (each for each in self.requests(records) if each.steps):
                self.history.put(*(step.result for step in expected_execution(request).steps))

    def requests(self, records: Sequence[OutRecord] | None = None) -> list[ActionRequest]:
        """The requests that the log has."""
        written = self.written if records is None else records
        return self._verified(topics.REQUESTS_PEOPLE, PayloadType.REQUEST, ActionRequest, written)

    def events(self) -> list[RuntimeEvent]:
        """The events that the log has."""
        return self._verified(topics.RUNTIME_EVENTS, PayloadType.EVENT, RuntimeEvent, self.written)

    def audit(self) -> list[AuditRecord]:
        """The audit records that the outbox holds, opened."""
        return [
            FakeCodec().decode(bytes.fromhex(json.loads(record.value or b"")["payload"]), AuditRecord)
            for record in self.outbox.published
        ]

    def _verified(self, topic: str, kind: PayloadType, as_: type[T], records: Sequence[OutRecord]) -> list[T]:
        values = [record.value or b"" for record in records if record.topic == topic]
        return [self.verifier.verify(value, kind, as_).record for value in values]

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request, with the token unless `headers` is given."""
        return asyncio.run(self.send_many([(method, path, more)]))[0]

    async def send_many(self, calls: Sequence[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Requests at the same time."""
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await asyncio.gather(
                *(
                    client.request(method, path, **{"headers": {"Authorization": f"Bearer {TOKEN}"}, **more})
                    for method, path, more in calls
                )
            )

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.send("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.send("POST", path, **more)
