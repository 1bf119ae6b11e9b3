"""Checks what people and detectors submit, signs and audits it, and writes it to the log before it is acknowledged.

Called by the routes on worker threads; calls the history store, the audit trail and the log. Everything is checked
before the first record is sent, so that a refusal means that nothing was written. Decides nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from workers.domain.errors import MalformedMessage
from workers.domain.event import RuntimeEvent
from workers.domain.falco.alert import event_from
from workers.domain.history.execution import Execution
from workers.domain.ids import (
    NO_EXECUTION,
    RANDOM_BYTES,
    EventId,
    ExecutionId,
    id_from_cause,
    is_execution_id,
    uuid7,
    uuid7_time_ns,
)
from workers.domain.log import topics
from workers.domain.log.record import Headers, OutRecord
from workers.domain.outcome import Values
from workers.domain.request import ActionRequest
from workers.domain.request_bounds import NotARequest, check, check_size
from workers.domain.trust.envelope import PayloadType
from workers.gateway import requests
from workers.gateway.audit_trail import AuditTrail
from workers.gateway.permissions import Access, permit
from workers.gateway.principals import Principal
from workers.gateway.refusals import Conflict, Invalid, NotFound, TooLarge
from workers.gateway.requests import Catalogue, Submission
from workers.store.history.ports import HistoryStore
from workers.store.objects.ports import ObjectReader
from workers.system.ports import Clock, Randomness, Telemetry
from workers.wire.ports import RecordSigner

LARGEST_RECORD: Final = 900_000
"""Bytes of one encoded event: under the limit of 1,000,000 for what is signed, with room for envelope, key, headers
and trace."""

MOST_EVENTS: Final = 10_000
"""Events of one request."""

KEY_WINDOW_NS: Final = 86_400_000_000_000
"""A day: an idempotency key means the same execution for at least that long, and for less than two."""

Append = Callable[[Sequence[OutRecord]], None]
"""Write records and wait until the log has every one. Raises ``TransientFailure``: some may be written."""

Split = Callable[[bytes], Sequence[object]]
"""The alerts of a body: one JSON object, a list of them, or one a line. Raises ``MalformedMessage``."""


@dataclass(frozen=True, slots=True)
class WrittenRequest:
    """A request that was written, or the execution that its idempotency key already names."""

    execution_id: ExecutionId
    request: ActionRequest
    known: Execution | None = None


@dataclass(frozen=True, slots=True)
class GatewayIntake:
    """Everything in the gateway that writes."""

    history: HistoryStore
    catalogue: Catalogue
    append: Append
    split: Split
    signer: RecordSigner
    """Signs requests and events, so that no other writer of their topics is believed."""
    trail: AuditTrail
    telemetry: Telemetry
    clock: Clock
    randomness: Randomness
    objects: ObjectReader | None = None
    """Where acquired files are; None if no object store is configured."""

    def submit_events(self, body: bytes, *, person: Principal, parent: Headers = ()) -> tuple[EventId, ...]:
        """Write a detector's events, all of them or none; their ids, in order.

        Raises:
            Invalid: which record is wrong, and how.
            TooLarge: a record or the whole is too large.
            TransientFailure: the log did not acknowledge in time; handing the same in again is safe.
        """
        with self.telemetry.span("gateway submit_events", parent=parent) as span:
            events = self._read(body)
            records = [self._event_record(event, number, span.headers()) for number, event in enumerate(events, 1)]
            ends = {"event_id": events[0].event_id, "last_event_id": events[-1].event_id}
            detail: Values = {"events": len(events), **ends}
            self.trail.requested("handed_in", person, execution_id=NO_EXECUTION, detail=detail, trace=span.headers())
            self.append(records)
            self.telemetry.count("gateway.events", len(events))
            return tuple(event.event_id for event in events)

    def execute(
        self, submission: Submission, *, person: Principal, key: str = "", parent: Headers = ()
    ) -> WrittenRequest:
        """Write a request for an action. ``key`` is the client's idempotency key: the same key is the same execution.

        Raises:
            Invalid: what is wrong with which field.
            Forbidden: this person may not request it.
            Conflict: the key was used for something else.
            TransientFailure: the log did not acknowledge in time; the same request under the same key is safe.
        """
        permit(person, requests.action_of(submission.action, self.catalogue), Access.EXEC)
        with self.telemetry.span("gateway execute", parent=parent) as span:
            now_ns = self.clock.now_ns()
            event = self._event(submission.event_id)
            execution_id, known = self._id_for(person, key, now_ns)
            request = requests.execute(
                submission, self.catalogue, person=person, execution_id=execution_id, now_ns=now_ns, event=event
            )
            if known is not None:
                return self._again(request, known)
            self._write("asked", request, execution_id, person, span.headers())
            return WrittenRequest(execution_id, request)

    def undo(
        self,
        execution_id: str,
        *,
        person: Principal,
        reason: str = "",
        caller_id: str = "",
        key: str = "",
        parent: Headers = (),
    ) -> WrittenRequest:
        """Write a request to undo an execution; the answer names the new execution that undoes it. ``key`` as in
        ``execute``.

        Raises:
            NotFound, Forbidden, Conflict, TransientFailure: as named.
        """
        with self.telemetry.span("gateway undo", parent=parent) as span:
            done = self.found(execution_id, person=person, access=Access.EXEC)
            now_ns = self.clock.now_ns()
            new_id, known = self._id_for(person, key, now_ns)
            request = requests.undo(
                done, self.catalogue, person=person, execution_id=new_id, now_ns=now_ns, reason=reason
            )
            request = replace(request, caller_id=caller_id)
            if known is not None:
                return self._again(request, known)
            undone = done.undone_by
            if undone is not None:
                raise Conflict(
                    f"already undone by {undone.execution_id}, which {undone.actor} requested", code="undone"
                )
            self._write("asked_undo", request, new_id, person, span.headers())
            return WrittenRequest(new_id, request)

    def cancel(self, execution_id: str, *, person: Principal, reason: str = "", parent: Headers = ()) -> Execution:
        """Write a request to cancel an execution; the execution as it is now.

        Raises:
            NotFound, Forbidden, Conflict, TransientFailure: as named.
        """
        with self.telemetry.span("gateway cancel", parent=parent) as span:
            running = self.found(execution_id, person=person, access=Access.EXEC)
            request = requests.cancel(running, person=person, now_ns=self.clock.now_ns(), reason=reason)
            self._write("asked_cancel", request, running.execution_id, person, span.headers())
            return running

    def found(self, execution_id: str, *, person: Principal, access: Access = Access.READ) -> Execution:
        """An execution with its steps.

        Raises:
            NotFound: there is none.
            Forbidden: this person may not do that with it.
        """
        known = self.history.execution(ExecutionId(execution_id)) if is_execution_id(execution_id) else None
        if known is None:
            raise NotFound(f"there is no execution {execution_id[:64]!r}")
        permit(person, self.catalogue.get(known.action), access)
        return known

    def _read(self, body: bytes) -> Sequence[RuntimeEvent]:
        try:
            alerts = self.split(body)
        except MalformedMessage as error:
            raise _refusal(error, error.message) from None
        if not alerts:
            raise Invalid("the body has no event: send one Falco alert, a list of alerts, or one alert per line")
        if len(alerts) > MOST_EVENTS:
            raise TooLarge(f"{len(alerts)} events; at most {MOST_EVENTS} are taken at once")
        return [self._normalised(alert, number, len(alerts)) for number, alert in enumerate(alerts, 1)]

    def _normalised(self, alert: object, number: int, of: int) -> RuntimeEvent:
        try:
            return event_from(alert)
        except MalformedMessage as error:
            raise _refusal(error, f"event {number} of {of}: {error.message}", record=str(number)) from None

    def _event_record(self, event: RuntimeEvent, number: int, headers: Headers) -> OutRecord:
        value = self._signed(PayloadType.EVENT, event, f"event {number}")
        return OutRecord(topics.RUNTIME_EVENTS, (event.host or event.event_id).encode(), value, headers)

    def _signed(self, kind: PayloadType, record: object, name: str) -> bytes:
        try:
            signed = self.signer.sign(kind, record)
        except MalformedMessage as error:
            if error.reason != "oversize":
                raise
            raise TooLarge(f"{name} has too many bytes; at most {LARGEST_RECORD} are taken") from None
        if len(signed.payload) > LARGEST_RECORD:
            raise TooLarge(f"{name} has {len(signed.payload)} bytes; at most {LARGEST_RECORD} are taken")
        return signed.value

    def _event(self, event_id: str) -> RuntimeEvent | None:
        if not event_id:
            return None
        stored = self.history.event(EventId(event_id))
        if stored is None:
            raise Invalid(
                f"there is no event {event_id[:64]!r}; one that was just submitted takes a moment to appear",
                code="unknown_event",
                field="event_id",
            )
        return stored.event

    def _id_for(self, person: Principal, key: str, now_ns: int) -> tuple[ExecutionId, Execution | None]:
        """The id that a key names, today's or still yesterday's; a random one without a key.

        The id takes its time from a key that is itself a fresh UUIDv7, so that ids stay in the order of the requests.
        """
        if not key:
            return ExecutionId(uuid7(now_ns, self.randomness.bytes(RANDOM_BYTES))), None
        if is_execution_id(key) and abs(now_ns - (made_ns := uuid7_time_ns(ExecutionId(key)))) < KEY_WINDOW_NS:
            moments = [made_ns]
        else:
            today_ns = now_ns - now_ns % KEY_WINDOW_NS
            moments = [today_ns, today_ns - KEY_WINDOW_NS]
        ids = [id_from_cause(moment_ns, person.name, key) for moment_ns in moments]
        for execution_id in ids:
            known = self.history.execution(execution_id)
            if known is not None and known.request is not None:
                return execution_id, known
        return ids[0], None

    def _again(self, request: ActionRequest, known: Execution) -> WrittenRequest:
        before = known.request
        if before is not None and (field := requests.differs(request, before)):
            raise Conflict(
                f"this idempotency key was used for {known.execution_id}, which has a different {field}",
                code="idempotency_key_reused",
                field=field,
            )
        return WrittenRequest(known.execution_id, request, known)

    def _write(
        self, what: str, request: ActionRequest, execution_id: ExecutionId, person: Principal, trace: Headers
    ) -> None:
        value = self._signed(PayloadType.REQUEST, request, "the request")
        _refuse_unfit(request, value)
        subject = {"subject": str(request.subject)} if request.subject else {}
        action = {"action": request.steps[0].action} if request.steps else {}
        detail: Values = {"verb": request.verb.value, "host": request.host, "dry_run": request.dry_run}
        self.trail.requested(
            what, person, execution_id=execution_id, detail={**detail, **action, **subject}, trace=trace
        )
        self.append([OutRecord(topics.REQUESTS_PEOPLE, execution_id.encode(), value, trace)])
        self.telemetry.count("gateway.requests_written", labels={"verb": request.verb})


def _refuse_unfit(request: ActionRequest, value: bytes) -> None:
    """Refuse here what the dispatcher would take for no request, when nobody waits for the answer any more."""
    try:
        check(request, topics.REQUESTS_PEOPLE)
    except NotARequest as error:
        raise Invalid(str(error)) from None
    try:
        check_size(value)
    except NotARequest as error:
        raise TooLarge(str(error)) from None


def _refusal(error: MalformedMessage, message: str, **details: str) -> Invalid | TooLarge:
    """The event reader's error as a refusal of the gateway."""
    if error.reason == "oversize":
        return TooLarge(message, **details)
    return Invalid(message, code=error.reason, **details)
