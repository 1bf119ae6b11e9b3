"""Typed access to the dispatcher's rows in its ledger, inside one ledger transaction.

Called by every step function of the dispatcher. Turns rows into the ledger's bytes (JSON) and back; decides nothing. By
hand, because a worker knows of ``wire`` only its ports, and what a port would add is more than these three functions.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from workers.dispatcher.rows import Cooldown, ExecutionRow, NodeRow, Sent
from workers.dispatcher.tails import Tail
from workers.domain.ids import ExecutionId, Incarnation, NodeId
from workers.domain.log.record import Headers, LogPosition
from workers.domain.log.topology import Topology
from workers.domain.outcome import Stage
from workers.domain.request import ActionRequest
from workers.store.ports import LedgerTx
from workers.wire.ports import Codec


class Rows:
    """Typed access to one transaction's rows."""

    def __init__(self, ledger: LedgerTx, codec: Codec) -> None:
        """``codec`` reads and writes requests."""
        self._ledger = ledger
        self._codec = codec

    def execution(self, execution_id: ExecutionId) -> ExecutionRow | None:
        """One execution."""
        data = self._ledger.get("execution", execution_id)
        return _execution(data) if data is not None else None

    def put_execution(self, row: ExecutionRow, *, due_ns: int = 0) -> None:
        """Insert or replace; ``due_ns`` is when ``timers`` looks at it next. Keeps the list of open commands."""
        self._ledger.put("execution", row.execution_id, _execution_json(row), due_ns=due_ns)
        if row.node_id:
            if row.stage is Stage.ENDED:
                self._ledger.delete("open", f"{row.node_id}/{row.execution_id}")
                self._ledger.delete("sent", row.execution_id)
            else:
                value = f"{row.incarnation} {row.expires_at_ns}"
                self._ledger.put("open", f"{row.node_id}/{row.execution_id}", value.encode())

    def due(self, now_ns: int, *, limit: int) -> Sequence[ExecutionRow]:
        """Executions that ``timers`` must look at."""
        return [_execution(data) for _, data in self._ledger.due("execution", now_ns, limit=limit)]

    def open_at(self, node_id: NodeId, incarnation: Incarnation, *, expired_ns: int) -> Sequence[ExecutionRow]:
        """Commands sent to a node and not ended, except those of this very incarnation that had not expired by then.

        A node in the middle of a burst has thousands of those, and each of its heartbeats leads here.
        """
        prefix = f"{node_id}/"
        found = []
        for key, value in self._ledger.scan("open", prefix):
            sent_to, expires_at_ns = value.decode().rsplit(" ", 1)
            if sent_to == incarnation and int(expires_at_ns) > expired_ns:
                continue
            row = self.execution(ExecutionId(key[len(prefix) :]))
            found += [row] if row is not None else []
        return found

    def step(self, request_id: ExecutionId, number: int) -> ExecutionRow | None:
        """The row of a request's step; None behind the last."""
        steps = self.request(request_id).steps
        return self.execution(steps[number].execution_id) if number < len(steps) else None

    def request(self, request_id: ExecutionId) -> ActionRequest:
        """The request of an execution that has a row."""
        data = self._ledger.get("request", request_id)
        if data is None:
            raise KeyError(request_id)
        return self._codec.decode(data, ActionRequest)

    def put_request(self, request_id: ExecutionId, request: ActionRequest, *, value: bytes = b"") -> None:
        """Keep a request whole; ``value`` is its bytes where it has some."""
        self._ledger.put("request", request_id, value or self._codec.encode(request))

    def forget(self, row: ExecutionRow) -> None:
        """Drop an execution, and its request with the last step."""
        self._ledger.delete("execution", row.execution_id)
        steps = self.request(row.request_id).steps
        if all(self.execution(step.execution_id) is None for step in steps):
            self._ledger.delete("request", row.request_id)

    def node(self, node_id: NodeId) -> NodeRow | None:
        """One node."""
        data = self._ledger.get("node", node_id)
        if data is None:
            return None
        found = json.loads(data)
        texts = ("host_names", "earlier", "disputed")
        return NodeRow(**{**found, **{name: tuple(found.get(name, ())) for name in texts}})

    def put_node(self, row: NodeRow) -> None:
        """Insert or replace. A node claims the host names that it has, and gives up those that it has no more."""
        known = self.node(row.node_id)
        before = {name.lower() for name in known.host_names} if known is not None else set()
        after = {name.lower() for name in row.host_names}
        for name in before - after:
            self._ledger.delete("host", _host_key(name, row.node_id))
        for name in after - before:
            order = 1 + max((order for order, _ in self._claims(name)), default=0)
            self._ledger.put("host", _host_key(name, row.node_id), b"%d" % order)
        self._ledger.put("node", row.node_id, _json(asdict(row)))

    def holders(self, host_name: str) -> Sequence[NodeId]:
        """The node that a host name belongs to: the one that claimed it first and has not given it up since. More than
        one only where several had it before claims were numbered."""
        claims = self._claims(host_name)
        first = min((order for order, _ in claims), default=0)
        return [node_id for order, node_id in claims if order == first]

    def _claims(self, host_name: str) -> Sequence[tuple[int, NodeId]]:
        """(number of the claim, node) of all that have this host name."""
        prefix = _host_key(host_name, NodeId(""))
        return [(int(value or b"0"), NodeId(key[len(prefix) :])) for key, value in self._ledger.scan("host", prefix)]

    def alarm_ns(self, name: str, subject: str) -> int | None:
        """When an alarm was raised last about a subject."""
        value = self._ledger.get("alarm", f"{name}/{subject}")
        return int(value) if value is not None else None

    def put_alarm(self, name: str, subject: str, *, at_ns: int) -> None:
        """Remember when an alarm was raised."""
        self._ledger.put("alarm", f"{name}/{subject}", b"%d" % at_ns)

    def cooldown(self, key: str) -> Cooldown | None:
        """The cooldown of a key, which may be over."""
        data = self._ledger.get("cooldown", key)
        return Cooldown(*json.loads(data)) if data is not None else None

    def put_cooldown(self, key: str, cooldown: Cooldown) -> None:
        """Begin a cooldown."""
        value = _json((cooldown.request_id, cooldown.until_ns))
        self._ledger.put("cooldown", key, value, due_ns=cooldown.until_ns)

    def forget_cooldowns(self, now_ns: int) -> None:
        """Drop those that are over."""
        for key, _ in self._ledger.due("cooldown", now_ns):
            self._ledger.delete("cooldown", key)

    def put_undo(self, execution_id: ExecutionId, *, due_ns: int) -> None:
        """Undo an execution automatically at that time."""
        self._ledger.put("undo", execution_id, b"", due_ns=due_ns)

    def take_undos(self, now_ns: int, *, limit: int) -> Sequence[ExecutionId]:
        """Executions to undo now; each is returned once."""
        due = [ExecutionId(key) for key, _ in self._ledger.due("undo", now_ns, limit=limit)]
        for execution_id in due:
            self._ledger.delete("undo", execution_id)
        return due

    def put_sent(self, execution_id: ExecutionId, sent: Sent) -> None:
        """Keep a command's exact bytes; dropped when its execution ends."""
        value = base64.b64encode(sent.value).decode()
        self._ledger.put("sent", execution_id, _json((sent.topic, sent.partition, sent.key, value, sent.headers)))

    def sent_to(self, execution_id: ExecutionId) -> Sent | None:
        """One command that has not ended."""
        data = self._ledger.get("sent", execution_id)
        return _sent(data) if data is not None else None

    def sent(self) -> Sequence[tuple[ExecutionId, Sent]]:
        """Every command that has not ended."""
        return [(ExecutionId(key), _sent(data)) for key, data in self._ledger.scan("sent")]

    def topology(self, zone: str) -> Topology | None:
        """The newest generation of a zone's command topic that was announced; None before the first growth."""
        data = self._ledger.get("topology", zone)
        return Topology(**json.loads(data)) if data is not None else None

    def put_topology(self, topology: Topology) -> None:
        """Replace it by the next one."""
        self._ledger.put("topology", topology.zone, _json(asdict(topology)))

    def log_of(self, topic: str, partition: int) -> str:
        """The log a partition was read from last; empty when it never was."""
        return (self._ledger.get("log", f"{topic}/{partition}") or b"").decode()

    def put_log(self, position: LogPosition) -> None:
        """Remember which log a partition is read from."""
        self._ledger.put("log", f"{position.topic}/{position.partition}", position.log_id.encode())

    def put_tail(self, tail: Tail) -> None:
        """Keep how far a command partition is known to be written."""
        position = (tail.position.log_id, tail.position.topic, tail.position.partition)
        self._ledger.put("tail", "/".join(map(str, position)), _json((*position, tail.next_offset)))

    def tails(self) -> Sequence[Tail]:
        """Every command partition that was ever written to."""
        found = [json.loads(data) for _, data in self._ledger.scan("tail")]
        return [Tail(LogPosition(*position), next_offset) for *position, next_offset in found]


_COLUMNS: Final = tuple(column.name for column in fields(ExecutionRow))


def _execution_json(row: ExecutionRow) -> bytes:
    # Not asdict: it copies every value, which took a sixth of the dispatcher's time.
    return _json({name: getattr(row, name) for name in _COLUMNS})


def _execution(data: bytes) -> ExecutionRow:
    found = json.loads(data)
    return ExecutionRow(**{**found, "stage": Stage(found["stage"]), "trace": _headers(found["trace"])})


def _sent(data: bytes) -> Sent:
    topic, partition, key, value, headers = json.loads(data)
    return Sent(topic, partition, bytes.fromhex(key), base64.b64decode(value), _headers(headers))


def _headers(found: Any) -> Headers:
    return tuple((name, bytes.fromhex(value)) for name, value in found)


def _host_key(name: str, node_id: NodeId) -> str:
    """JSON quotes the name, so that no name is the beginning of another's key."""
    return json.dumps(name.lower()) + node_id


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), default=bytes.hex)
"""Bytes become hex digits; tuples become lists."""


def _json(content: object) -> bytes:
    return _ENCODER.encode(content).encode()
