"""History in memory: answers every question of the port out of plain sets, with nothing of SQL in it.

For tests of the gateway (fill it with `put`), the second opinion in the contract suite and the projector's tests.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from workers.domain.errors import PermanentFailure
from workers.domain.event import RuntimeEvent
from workers.domain.history.execution import Execution, FoldedStep, StepKey, fold
from workers.domain.history.queries import (
    EventQuery,
    ExecutionQuery,
    Page,
    StoredAudit,
    StoredEvent,
    StoredNode,
    StoreHealth,
    checked_limit,
    cursor_after,
    position_of,
)
from workers.domain.history.retention import Cutoffs, Forgotten, is_old, is_open
from workers.domain.history.search import HistoryDigest, SearchRow, lifts, search_row, short_container
from workers.domain.history.sequence import Ranges, sender_of
from workers.domain.ids import ChainId, EventId, ExecutionId
from workers.domain.log.record import LogPosition
from workers.domain.node_state import NodeState
from workers.domain.result import ActionResult
from workers.domain.trust.audit import GENESIS, AuditRecord, link

T = TypeVar("T")


@dataclass
class _Tables:
    offsets: dict[LogPosition, int] = field(default_factory=dict)
    steps: dict[ExecutionId, dict[StepKey, FoldedStep]] = field(default_factory=lambda: defaultdict(dict))
    rows: dict[ExecutionId, SearchRow] = field(default_factory=dict)
    events: dict[EventId, dict[str, RuntimeEvent]] = field(default_factory=lambda: defaultdict(dict))
    nodes: dict[tuple[str, str], tuple[NodeState, str, bool, int]] = field(default_factory=dict)
    names: set[tuple[str, str]] = field(default_factory=set)
    audit: dict[tuple[ChainId, int, str], tuple[AuditRecord, bytes, bool]] = field(default_factory=dict)
    senders: dict[str, Ranges] = field(default_factory=dict)
    unverified: dict[tuple[LogPosition, int], tuple[bytes, str, int]] = field(default_factory=dict)
    gaps: dict[tuple[LogPosition, int, int], int] = field(default_factory=dict)
    anchors: set[tuple[ChainId, int, bytes]] = field(default_factory=set)
    forgotten: list[Cutoffs] = field(default_factory=lambda: [Cutoffs()])

    def copied(self) -> _Tables:
        """Sharing no container with this one; the values in them are frozen."""
        twin = _Tables(**{each.name: copy(getattr(self, each.name)) for each in fields(self)})
        for execution_id, steps in self.steps.items():
            twin.steps[execution_id] = copy(steps)
        for event_id, contents in self.events.items():
            twin.events[event_id] = copy(contents)
        return twin


class FakeHistoryTx:
    """Writes into a copy of the tables that the store takes over at the end."""

    def __init__(self, held: _Tables) -> None:
        self._held = held

    def advance(self, position: LogPosition, *, expected: int | None, next_offset: int) -> None:
        if self._held.offsets.get(position) != expected:
            raise PermanentFailure("another projector was here", code="second_owner")
        self._held.offsets[position] = next_offset

    def steps(self, execution_ids: Iterable[ExecutionId]) -> Mapping[ExecutionId, Sequence[FoldedStep]]:
        return {id_: list(self._held.steps[id_].values()) for id_ in execution_ids if id_ in self._held.steps}

    def put_steps(self, steps: Iterable[FoldedStep]) -> None:
        for step in steps:
            self._held.steps[step.result.execution_id].setdefault(step.key, step)

    def put_execution(self, execution: Execution) -> None:
        self._held.rows[execution.execution_id] = search_row(execution)

    def put_event(self, event: RuntimeEvent, *, payload: bytes) -> None:
        self._held.events[event.event_id].setdefault(hashlib.sha256(payload).hexdigest(), event)

    def put_node(self, state: NodeState, *, payload: bytes, verified: bool, folded_at_ns: int) -> None:
        digest = hashlib.sha256(payload).hexdigest()
        known = self._held.nodes.get((state.node_id, state.incarnation))
        if known is None or (-known[0].record_no, known[1]) > (-state.record_no, digest):
            self._held.nodes[state.node_id, state.incarnation] = (state, digest, verified, folded_at_ns)
        self._held.names |= {(name, state.node_id) for name in state.host_names}

    def put_audit(self, record: AuditRecord, *, payload: bytes, signed: bytes, verified: bool) -> None:
        key = (record.chain_id, record.record_no, hashlib.sha256(payload).hexdigest())
        self._held.audit.setdefault(key, (record, payload, verified))

    def senders(self, names: Iterable[str]) -> Mapping[str, Ranges]:
        return {name: self._held.senders[name] for name in names if name in self._held.senders}

    def put_sender(self, name: str, seen: Ranges) -> None:
        self._held.senders[name] = seen

    def record_digests(self, places: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], frozenset[str]]:
        found: dict[tuple[str, int], set[str]] = defaultdict(set)
        wanted = set(places)
        for steps in self._held.steps.values():
            for step in steps.values():
                place = (sender_of(step.result), step.result.record_no)
                if place in wanted:
                    found[place].add(step.digest)
        return {place: frozenset(digests) for place, digests in found.items()}

    def put_unverified(self, position: LogPosition, offset: int, *, value: bytes, reason: str, at_ns: int) -> None:
        self._held.unverified.setdefault((position, offset), (value, reason, at_ns))

    def put_gap(self, position: LogPosition, *, expected: int, resumed_at: int, reason: str, at_ns: int) -> None:
        self._held.gaps.setdefault((position, expected, resumed_at), at_ns)

    def forgotten(self) -> Cutoffs:
        return self._held.forgotten[0]

    def forget(self, cutoffs: Cutoffs, *, limit: int) -> Forgotten:
        self._held.forgotten[0] = cutoffs = self.forgotten().with_later(cutoffs)
        rows = self._held.rows
        lifted = {row.undo_of for row in rows.values() if lifts(row)}
        return Forgotten(
            executions=self._forget_executions(cutoffs.executions, limit),
            events=self._forget_events(cutoffs.events, limit),
            audit=self._forget_audit(cutoffs.audit, lifted, limit),
            nodes=self._forget_nodes(cutoffs.nodes, limit),
        )

    def _forget_executions(self, before_ns: int, limit: int) -> int:
        rows = self._held.rows
        old = [row for row in rows.values() if is_old(row, before_ns)]
        lifted = {row.undo_of for row in old if lifts(row)}
        gone = [row for row in old if row.undo_of not in rows and (not row.effect_holds or row.execution_id in lifted)]
        gone = sorted(gone, key=lambda row: (row.requested_at_ns, row.execution_id))[:limit]
        for row in gone:
            del rows[row.execution_id], self._held.steps[row.execution_id]
        return len(gone)

    def _forget_events(self, before_ns: int, limit: int) -> int:
        named = {row.event_id for row in self._held.rows.values()}
        gone = [
            (event_id, digest)
            for event_id, contents in self._held.events.items()
            for digest, event in contents.items()
            if event.occurred_at_ns < before_ns and event_id not in named
        ][:limit]
        for event_id, digest in gone:
            del self._held.events[event_id][digest]
            if not self._held.events[event_id]:
                del self._held.events[event_id]
        return len(gone)

    def _forget_audit(self, before_ns: int, lifted: set[ExecutionId], limit: int) -> int:
        held = self._held
        still_open = {id_ for id_, row in held.rows.items() if is_open(row, lifted=id_ in lifted)}
        old = [key for key, (record, _, _) in held.audit.items() if record.at_ns < before_ns]
        gone = [key for key in old if held.audit[key][0].execution_id not in still_open][:limit]
        for key in gone:
            record, payload, _ = held.audit.pop(key)
            held.anchors.add((record.chain_id, record.record_no, link(payload, record.previous)))
        held.unverified = {place: kept for place, kept in held.unverified.items() if kept[2] >= before_ns}
        held.gaps = {place: at_ns for place, at_ns in held.gaps.items() if at_ns >= before_ns}
        return len(gone)

    def _forget_nodes(self, before_ns: int, limit: int) -> int:
        held = self._held
        busy = {row.node_id for row in held.rows.values()}
        gone = [key for key, (state, *_) in held.nodes.items() if state.at_ns < before_ns and state.node_id not in busy]
        for key in gone[:limit]:
            del held.nodes[key]
        known = {node_id for node_id, _ in held.nodes}
        held.names = {(name, node_id) for name, node_id in held.names if node_id in known}
        return len(gone[:limit])


class FakeHistoryStore:
    """Implements `HistoryStore`."""

    def __init__(self) -> None:
        self._held = _Tables()

    def put(self, *results: ActionResult) -> None:
        """Fold results in, as if the projector had: for tests that only read."""
        with self.begin() as tx:
            for result in results:
                payload = repr(result).encode()
                tx.put_steps([FoldedStep(result, hashlib.sha256(payload).hexdigest(), payload, payload)])
            for id_, steps in tx.steps({result.execution_id for result in results}).items():
                tx.put_execution(fold(id_, steps))

    @contextmanager
    def begin(self) -> Iterator[FakeHistoryTx]:
        held = self._held.copied()
        yield FakeHistoryTx(held)
        self._held = held

    def next_offset(self, position: LogPosition) -> int | None:
        return self._held.offsets.get(position)

    def execution(self, execution_id: ExecutionId) -> Execution | None:
        steps = self._held.steps.get(execution_id)
        return fold(execution_id, steps.values()) if steps else None

    def executions(self, query: ExecutionQuery) -> Page[Execution]:
        chosen = [row for row in self._held.rows.values() if self._wanted(row, query)]
        chosen.sort(key=lambda row: (row.requested_at_ns, row.execution_id), reverse=True)
        before = position_of(query.cursor) if query.cursor else None
        left = [row for row in chosen if before is None or (row.requested_at_ns, row.execution_id) < before]
        page, more = _cut(left[query.offset :], "", query.limit, lambda row: (row.requested_at_ns, row.execution_id))
        return Page(tuple(self._bare(row.execution_id) for row in page), more)

    def undone_by(self, execution_id: ExecutionId) -> Execution | None:
        undos = [row for row in self._held.rows.values() if row.undo_of == execution_id and lifts(row)]
        newest = max(undos, key=lambda row: (row.ended_at_ns, row.execution_id), default=None)
        return self.execution(newest.execution_id) if newest is not None else None

    def contained(self) -> Sequence[Execution]:
        lifted = {row.undo_of for row in self._held.rows.values() if lifts(row)}
        holding = [row for row in self._held.rows.values() if row.effect_holds and row.execution_id not in lifted]
        holding.sort(key=lambda row: (row.requested_at_ns, row.execution_id), reverse=True)
        return [self._bare(row.execution_id) for row in holding]

    def event(self, event_id: EventId) -> StoredEvent | None:
        contents = self._held.events.get(event_id)
        return self._stored(next(iter(contents.values()))) if contents else None

    def events(self, query: EventQuery) -> Page[StoredEvent]:
        firsts = [next(iter(contents.values())) for contents in self._held.events.values()]
        chosen = [event for event in firsts if self._event_wanted(event, query)]
        page, more = _cut(chosen, query.cursor, query.limit, lambda event: (event.occurred_at_ns, event.event_id))
        return Page(tuple(self._stored(event) for event in page), more)

    def nodes(self) -> Sequence[StoredNode]:
        return [StoredNode(state, verified, at_ns) for state, _, verified, at_ns in self._newest()]

    def audit(self, *, execution_id: str = "", chain_id: str = "", limit: int = 200) -> Sequence[StoredAudit]:
        hashes = {
            (record.chain_id, record.record_no + 1, link(payload, record.previous))
            for record, payload, _ in self._held.audit.values()
        } | {(chain_id, record_no + 1, hash_) for chain_id, record_no, hash_ in self._held.anchors}
        found = []
        for record, _, verified in self._held.audit.values():
            first = record.record_no == 0 and record.previous == GENESIS
            linked = first or (record.chain_id, record.record_no, record.previous) in hashes
            if execution_id in ("", record.execution_id) and chain_id in ("", record.chain_id):
                found.append(StoredAudit(record, verified and linked))
        found.sort(
            key=lambda stored: (stored.record.at_ns, stored.record.chain_id, stored.record.record_no), reverse=True
        )
        return found[: checked_limit(limit)]

    def health(self) -> StoreHealth:
        held = self._held
        return StoreHealth(
            {f"{position.topic}/{position.partition}": offset for position, offset in held.offsets.items()},
            len(held.rows),
            len(held.unverified),
            sum(row.conflict for row in held.rows.values()),
            len(held.gaps),
            max((state.at_ns for state, *_ in held.nodes.values()), default=0),
        )

    def digest(self) -> str:
        digest = HistoryDigest()
        for id_, steps in self._held.steps.items():
            for key in steps:
                digest.add("step", id_, *key)
        for row in self._held.rows.values():
            digest.add_execution(row)
        for event_id, contents in self._held.events.items():
            for content in contents:
                digest.add("event", event_id, content)
        for state, content, _, _ in self._newest():
            digest.add("node", state.node_id, content)
        for (chain_id, number, content), (_, _, verified) in self._held.audit.items():
            digest.add("audit", chain_id, number, content, int(verified))
        return digest.hexdigest()

    def close(self) -> None:
        """Nothing to close."""

    def _bare(self, execution_id: ExecutionId) -> Execution:
        return replace(fold(execution_id, self._held.steps[execution_id].values()), steps=())

    def _stored(self, event: RuntimeEvent) -> StoredEvent:
        led_to = [row for row in self._held.rows.values() if row.event_id == event.event_id]
        led_to.sort(key=lambda row: (row.requested_at_ns, row.execution_id))
        return StoredEvent(event, tuple(row.execution_id for row in led_to))

    def _newest(self) -> list[tuple[NodeState, str, bool, int]]:
        newest: dict[str, tuple[NodeState, str, bool, int]] = {}
        for heard in sorted(self._held.nodes.values(), key=lambda held: (held[0].at_ns, held[0].incarnation)):
            newest[heard[0].node_id] = heard
        return [newest[node_id] for node_id in sorted(newest)]

    def _wanted(self, row: SearchRow, query: ExecutionQuery) -> bool:
        plain = ("rule", "actor", "action", "outcome", "stage", "event_id", "caller_id", "undo_of")
        events = self._held.events.get(row.event_id, {}).values()
        clusters = {s.cluster for s, _, _, _ in self._held.nodes.values() if s.node_id == row.node_id}
        return (
            all(getattr(query, name) in ("", getattr(row, name)) for name in plain)
            and (not query.host or row.host == query.host or row.node_id in self._ids_of(query.host))
            and (not query.container or short_container(query.container) in {row.container, *map(_container, events)})
            and (not query.workload or query.workload in {event.workload for event in events})
            and (not query.cluster or query.cluster in clusters | {event.cluster for event in events})
            and (query.actions is None or row.action in query.actions)
            and (not query.outcomes or row.outcome in query.outcomes)
            and (not query.stages or row.stage in query.stages)
            and query.from_ns <= row.requested_at_ns
            and (not query.to_ns or row.requested_at_ns < query.to_ns)
        )

    def _event_wanted(self, event: RuntimeEvent, query: EventQuery) -> bool:
        ids = self._ids_of(query.host)
        names = ids | {name for name, node_id in self._held.names if node_id in ids}
        return (
            (not query.host or event.host in names)
            and query.rule in ("", event.rule)
            and query.workload in ("", event.workload)
            and query.cluster in ("", event.cluster)
            and (not query.container or _container(event) == short_container(query.container))
            and query.from_ns <= event.occurred_at_ns
            and (not query.to_ns or event.occurred_at_ns < query.to_ns)
        )

    def _ids_of(self, host: str) -> set[str]:
        return {host} | {node_id for name, node_id in self._held.names if name == host}


def _container(event: RuntimeEvent) -> str:
    return short_container(event.container.id) if event.container is not None else ""


def _cut(rows: list[T], cursor: str, limit: int, key: Callable[[T], tuple[int, str]]) -> tuple[list[T], str]:
    before = position_of(cursor) if cursor else None
    left = sorted((row for row in rows if before is None or key(row) < before), key=key, reverse=True)
    page = left[: checked_limit(limit)]
    return page, cursor_after(*key(page[-1])) if len(left) > len(page) else ""
