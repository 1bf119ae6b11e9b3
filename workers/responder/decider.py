"""Turns one delivery into requests, refusals and dead letters, each with its audit record, or into nothing.

Called by ``responder.responder``, one delivery after the other; decides through ``domain.rules.rule`` and
``domain.rules.plan``. It never answers an event made from Douse's own audit with a record that could come back again.
"""

import traceback
from collections.abc import Sequence

from workers.domain.errors import MalformedMessage, TransientFailure
from workers.domain.event import RuntimeEvent
from workers.domain.log.record import Delivery, Gap, OutRecord, Record
from workers.domain.log.topics import AUDIT, REQUESTS_RULES
from workers.domain.outcome import Values
from workers.domain.request import ActionRequest
from workers.domain.rules.plan import Refusal, is_own_echo, plan
from workers.domain.rules.rule import Rule, Rules
from workers.domain.trust.envelope import PayloadType
from workers.log.ports import OutboxRow, Outgoing
from workers.system.ports import Clock, Span, Telemetry
from workers.wire.ports import EventReader, Recorder, RecordSigner, RecordTx


class Decider:
    """Writes into the outbox; keeps nothing between deliveries."""

    def __init__(
        self,
        *,
        rules: Rules,
        oldest_event_s: int,
        events: EventReader,
        signer: RecordSigner,
        recorder: Recorder,
        outgoing: Outgoing,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        """``oldest_event_s``: events older than this never trigger. ``signer`` signs what is requested."""
        self._rules = rules
        self._oldest_event_s = oldest_event_s
        self._events = events
        self._signer = signer
        self._recorder = recorder
        self._outgoing = outgoing
        self._clock = clock
        self._telemetry = telemetry

    def write_started(self, sources: Sequence[str]) -> None:
        """Write the first record of this run's audit chain: how many rules it has, and where events come from."""
        enabled = sum(rule.enabled for rule in self._rules.every)
        detail: Values = {"rules": len(self._rules.every), "enabled": enabled, "sources": ",".join(sources)}
        with self._outgoing.begin() as tx:
            self._recorder.audit(tx, "started", at_ns=self._clock.now_ns(), detail=detail)

    def report_unsendable(self, row: OutboxRow, reason: str) -> None:
        """The log will never accept a record: report it in the audit, and in the worker's own log lines."""
        topic = row.record.topic
        self._telemetry.log("unsendable", level="error", topic=topic, reason=reason)
        if topic == AUDIT:
            return
        detail: Values = {"topic": topic, "reason": reason, "size": len(row.record.value or b"")}
        with self._outgoing.begin() as tx:
            self._recorder.audit(tx, "unsendable", at_ns=self._clock.now_ns(), detail=detail)

    def decide(self, delivery: Delivery) -> None:
        """All that one delivery leads to is in the outbox on return, or nothing of it.

        Raises:
            TransientFailure: the outbox is full, or the keyset has expired; call again with the same delivery.
        """
        match delivery:
            case Gap():
                self._gap(delivery)
            case Record():
                self._record(delivery)

    def _gap(self, gap: Gap) -> None:
        with self._outgoing.begin() as tx:
            self._recorder.audit(tx, "gap", at_ns=self._clock.now_ns(), detail=gap.detail)

    def _record(self, record: Record) -> None:
        """Every record is decided, suppressed or a dead letter; a poison pill costs only itself."""
        with self._telemetry.span(f"process {record.position.topic}", parent=record.headers) as span:
            try:
                with self._outgoing.begin() as tx:
                    self._respond(tx, record, span)
            except MalformedMessage as error:
                if error.reason == "keyset_expired":  # genuine events must not be skipped
                    raise TransientFailure(error.message, code=error.reason) from error
                self._malformed(record, error.reason, error.message)
            except TransientFailure:
                raise
            except Exception as error:  # noqa: BLE001 - a bug must not stop the answer to every other event
                self._telemetry.log("bug", level="error", traceback=traceback.format_exc())
                self._malformed(
                    record, "internal", f"{type(error).__name__} while the record was matched: a bug, see the log"
                )

    def _malformed(self, record: Record, reason: str, message: str) -> None:
        if reason == "wrong_record":
            # A record of Douse that is no event: its own topics are fed back, and so would be a dead letter.
            self._suppressed(record)
            return
        self._telemetry.count("responder.malformed")
        with self._outgoing.begin() as tx:
            self._recorder.dead_letter(tx, record, reason=reason, message=message, at_ns=self._clock.now_ns())

    def _suppressed(self, record: Record) -> None:
        self._telemetry.count("responder.loop_suppressed")
        self._telemetry.log(
            "loop_suppressed",
            level="warning",
            topic=record.position.topic,
            partition=record.position.partition,
            offset=record.offset,
        )

    def _respond(self, tx: RecordTx, record: Record, span: Span) -> None:
        event = self._events.read(record)
        span.note("event_id", event.event_id)
        self._telemetry.count("responder.events")
        if is_own_echo(event):
            self._suppressed(record)
            return
        for rule in self._rules.matching(event):
            self._apply(tx, rule, event, span)

    def _apply(self, tx: RecordTx, rule: Rule, event: RuntimeEvent, span: Span) -> None:
        now_ns = self._clock.now_ns()
        planned = plan(event, rule, now_ns=now_ns, oldest_event_s=self._oldest_event_s)
        about: dict[str, str | int | bool] = {
            "event_id": event.event_id,
            "detector_rule": event.rule,
            "rule": rule.name,
            "host": event.host,
        }
        match planned:
            case ActionRequest():
                first = planned.steps[0].execution_id
                value = self._signer.sign(PayloadType.REQUEST, planned).value
                tx.publish(OutRecord(REQUESTS_RULES, first.encode(), value, span.headers()))
                about |= {"steps": len(planned.steps), "dry_run": planned.dry_run}
                self._recorder.audit(
                    tx,
                    "requested",
                    at_ns=now_ns,
                    execution_id=first,
                    actor=f"rule/{rule.name}",
                    detail=about,
                    trace=span.headers(),
                )
                span.note("rule", rule.name)
                span.note("execution_id", first)
                self._telemetry.count("responder.requests")
            case Refusal(code=code, message=message):
                about |= {"reason": code, "message": message}
                self._recorder.audit(tx, "refused", at_ns=now_ns, actor=f"rule/{rule.name}", detail=about)
                self._telemetry.count("responder.refused", labels={"reason": code})
