"""What the test client asked for and what it saw for itself: the oracle of every test here.

A victim's death is told by the kernel (pidfd, then waitpid), an outcome by the independent reader on the wire. History
and gateway are the accused: they are asked last, and compared.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import subprocess
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import httpx

from tests.e2e.fleet import Fleet
from tests.e2e.wire import Wire
from workers.bootstrap import one_machine
from workers.cli.demo.detection import falco_event
from workers.core.process import ProcessFacts

_SLEEP: Final = (shutil.which("sleep") or "/bin/sleep", "1000")
STARTED_NS: Final = 250_000_000
"""What has started before its expiry may end after it: a kill takes milliseconds, this morgue's thread has its turn a
little later on a busy machine."""
NOT_FINAL: Final = frozenset({None, "UNKNOWN"})


class Morgue:
    """Processes that die when somebody kills them, and the moment each did; reaped only at the end, so that no pid is
    ever given out twice meanwhile."""

    def __init__(self) -> None:
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        self._fds: dict[int, int] = {}
        self._died_ns: dict[int, int] = {}
        self._poll = select.epoll()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for process in self._started.values():
            process.kill()
            process.wait()
        for fd in self._fds:
            os.close(fd)
        self._poll.close()

    def spawn(self) -> int:
        """One more."""
        process = subprocess.Popen(_SLEEP)
        self._started[process.pid] = process
        fd = os.pidfd_open(process.pid)
        self._fds[fd] = process.pid
        self._poll.register(fd, select.EPOLLIN)
        return process.pid

    def died_ns(self, pid: int) -> int | None:
        """When the kernel said that it ended, by the wall clock; None while it lives."""
        return self._died_ns.get(pid)

    def status(self, pid: int) -> int | None:
        """Its exit status, by waitpid; None while it lives."""
        return self._started[pid].poll()

    def _watch(self) -> None:
        while not self._over.is_set():
            for fd, _ in self._poll.poll(0.2):
                self._died_ns.setdefault(self._fds[fd], time.time_ns())
                self._poll.unregister(fd)


@dataclass(slots=True)
class Asked:
    """One thing that was asked for, and what may come of it."""

    kind: str
    pid: int
    outcomes: frozenset[str]
    dies: bool
    key: str = ""
    event_id: str = ""
    execution_id: str = ""


@dataclass(slots=True)
class Verdict:
    """What the judge found, for printing."""

    asked: int
    lost: int = 0
    twice: int = 0
    wire_repeats: int = 0
    """The very same record more than once on the wire, which is allowed."""
    outcomes: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return f"{self.asked} asked: lost {self.lost}, done twice {self.twice}, repeats {self.wire_repeats} ({said})"


class Ledger:
    """One client of one fleet."""

    def __init__(self, fleet: Fleet, morgue: Morgue, wire: Wire) -> None:
        self.fleet = fleet
        self.morgue = morgue
        self.wire = wire
        self.asked: list[Asked] = []
        self._client = fleet.client()
        self._by_event: dict[str, str] = {}
        self._looked_at = 0
        self._finals: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        self._expiries: dict[str, int] = {}
        self._bodies: dict[str, Mapping[str, Any]] = {}
        wire.read_to_the_end()
        self._look()
        self._others = {execution_id for execution_id, finals in self._finals.items() if finals}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    # --- asking ---------------------------------------------------------------------------------------------------

    def host(self) -> str:
        """Where a person wants it done."""
        return self.fleet.node_id

    def kill(self, *, ttl_s: int = 0) -> Asked:
        """A person wants a process dead, by pid and start time."""
        pid = self.morgue.spawn()
        may = {"COMPLETED", "EXPIRED"} if ttl_s else {"COMPLETED"}
        return self._person("kill", pid, may, dies=True, ttl_s=ttl_s)

    def rehearse(self) -> Asked:
        """A dry run: nothing may die."""
        return self._person("dry_run", self.morgue.spawn(), {"DRY_RUN"}, dies=False, dry_run=True)

    def protected(self) -> Asked:
        """Somebody wants the node worker dead."""
        return self._person("protected", self.fleet.running["node"].pid, {"REJECTED"}, dies=False)

    def brief(self) -> Asked:
        """A kill with one second to live: done in time, or never."""
        return self.kill(ttl_s=1)

    def late(self) -> Asked:
        """Asked for with one second to live, while nobody can take it in: it must never be done."""
        return self._person("late", self.morgue.spawn(), {"EXPIRED"}, dies=False, ttl_s=1)

    def doubled(self) -> Asked:
        """The same request twice, under one idempotency key: one execution."""
        asked = self.kill()
        self._submit(asked, self._bodies[asked.key])
        return asked

    def detected(self) -> Asked:
        """A detector reports a process; the responder's rule wants it dead."""
        pid = self.morgue.spawn()
        event = falco_event(facts_of(pid), ())
        asked = Asked("event", pid, frozenset({"COMPLETED"}), dies=True, event_id=event["uuid"])
        self.asked.append(asked)
        self._insist(lambda: self._client.post("/api/v1/events", json=event))
        return asked

    def detected_twice(self) -> Asked:
        """The same alert twice, as a detector that was not sure would send it: one execution."""
        pid = self.morgue.spawn()
        event = falco_event(facts_of(pid), ())
        asked = Asked("event twice", pid, frozenset({"COMPLETED"}), dies=True, event_id=event["uuid"])
        self.asked.append(asked)
        for _ in range(2):
            self._insist(lambda: self._client.post("/api/v1/events", json=event))
        return asked

    def mixed(
        self,
        count: int,
        *,
        chance: random.Random,
        at_once: int = 4,
        pause_s: float = 0.0,
        hard: bool = False,
    ) -> None:
        """Something of everything, several at a time; returns when the gateway has taken all of it. `hard` adds
        requests for the node worker's own death, and some that may well expire."""
        kinds: list[Callable[[], Asked]] = [self.kill, self.detected, self.rehearse, self.doubled, self.detected_twice]
        weights = [4, 4, 1, 1, 1]
        if hard:
            kinds, weights = [*kinds, self.protected, self.brief], [*weights, 1, 1]
        chosen = chance.choices(kinds, weights, k=count)

        def one(ask: Callable[[], Asked]) -> None:
            ask()
            time.sleep(pause_s)

        with ThreadPoolExecutor(at_once) as together:
            for _ in together.map(one, chosen):
                pass

    # --- looking --------------------------------------------------------------------------------------------------

    def open(self) -> list[Asked]:
        """What has no final outcome on the wire yet."""
        self._look()
        return [each for each in self.asked if not self._finals.get(self._id(each))]

    def settled(self, within_s: float = 60.0, *, since: float | None = None) -> float:
        """Wait until everything asked for has ended on the wire and in history; the seconds since `since`."""
        began = time.monotonic()
        while True:
            waiting = self.open()
            if not waiting and not self._behind():
                return time.monotonic() - (since or began)
            assert time.monotonic() - began < within_s, (
                f"not settled within {within_s} s: {[(each.kind, self._id(each)) for each in waiting[:5]]} "
                f"of {len(waiting)}, history lacks {self._behind()[:3]}\n{self.fleet.last_words()}"
            )

    def judge(self) -> Verdict:
        """Everything must have ended exactly once, in a way that is allowed, and the world must agree."""
        self.wire.read_to_the_end()
        self._look()
        verdict = Verdict(len(self.asked))
        problems: list[str] = []
        intents = {record["execution_id"] for record in self.wire.audit() if record["kind"] == "intent"}
        histories = self._histories()
        for each in self.asked:
            execution_id = self._id(each)
            finals = list(self._finals.get(execution_id, {}).values())
            if not finals:
                verdict.lost += 1
                continue
            # The dispatcher may prove from outside that a command was never delivered, and its node say later that it
            # had expired: two tellings of one outcome. Two words of one producer, or two outcomes, are two ends.
            if len({final["outcome"] for final in finals}) > 1 or len({f["producer"] for f in finals}) < len(finals):
                verdict.twice += 1
            outcome = finals[0]["outcome"]
            verdict.outcomes[outcome] += 1
            problems += self._complaints(each, execution_id, outcome, intents, histories)
        ids = {self._id(each) for each in self.asked}
        if len(ids) != len(self.asked):
            problems.append("two requests became one execution")
        strangers = {i for i, finals in self._finals.items() if finals} - ids - self._others
        if strangers:
            problems.append(f"ended, but never asked for: {sorted(strangers)[:3]}")
        again = [other for other in self._others if len({f["outcome"] for f in self._finals[other].values()}) > 1]
        if again:
            problems.append(f"ended long ago, and now again: {again[:3]}")
        told = Counter(each.value for each in self.wire.heard("response.results"))
        verdict.wire_repeats = sum(told.values()) - len(told)
        assert (verdict.lost, verdict.twice) == (0, 0), f"{verdict}\n{self.fleet.last_words()}"
        assert not problems, f"{verdict}: {problems[:5]} of {len(problems)}\n{self.fleet.last_words()}"
        return verdict

    def _complaints(
        self,
        each: Asked,
        execution_id: str,
        outcome: str,
        intents: set[str],
        histories: Mapping[str, Mapping[str, Any]],
    ) -> list[str]:
        found = []
        if outcome not in each.outcomes:
            found.append(f"{each.kind} {execution_id} is {outcome}")
        killed = each.kind != "protected" and self.morgue.died_ns(each.pid) is not None
        should = outcome == "COMPLETED"
        if killed != should:
            found.append(f"{each.kind} {execution_id} says {outcome}, and its process is dead: {killed}")
        if killed and self.morgue.status(each.pid) != -9:
            found.append(f"{each.kind} {execution_id}: status {self.morgue.status(each.pid)}")
        if killed and execution_id not in intents:
            found.append(f"{each.kind} {execution_id} acted without an audited intent")
        died, expires = self.morgue.died_ns(each.pid) if killed else None, self._expiries.get(execution_id, 0)
        if died and expires and died > expires + STARTED_NS:
            found.append(f"{each.kind} {execution_id} was done {(died - expires) / 1e9:.3f} s after its expiry")
        in_history = histories.get(execution_id, {})
        if in_history.get("outcome") != outcome or in_history.get("conflict"):
            found.append(f"{each.kind} {execution_id} is {outcome}; history says {in_history.get('outcome')}")
        return found

    # --- inside ---------------------------------------------------------------------------------------------------

    def _person(
        self, kind: str, pid: int, outcomes: Iterable[str], *, dies: bool, ttl_s: int = 0, dry_run: bool = False
    ) -> Asked:
        body = {
            "action": "kill_process",
            "host": self.host(),
            "target": {"process": {"pid": pid, "start_time_ns": facts_of(pid).started_at_ns}},
            "reason": f"test: {kind}",
            "dry_run": dry_run,
            "ttl_s": ttl_s,
        }
        asked = Asked(kind, pid, frozenset(outcomes), dies, key=uuid.uuid4().hex)
        self._bodies[asked.key] = body
        self.asked.append(asked)
        self._submit(asked, body)
        return asked

    def _submit(self, asked: Asked, body: Mapping[str, Any]) -> None:
        headers = {"Idempotency-Key": asked.key}
        answer = self._insist(lambda: self._client.post("/api/v1/executions", json=body, headers=headers))
        found = answer.json()["id"]
        assert asked.execution_id in ("", found), f"{asked.kind}: one key, two executions"
        asked.execution_id = found

    def _insist(self, ask: Callable[[], httpx.Response], within_s: float = 90.0) -> httpx.Response:
        """Ask again until it was taken, as a client that does not know what became of its request does."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                answer = ask()
            except httpx.TransportError as error:
                why = repr(error)
            else:
                if answer.is_success:
                    return answer
                assert answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR, answer.text
                why = answer.text
            assert time.monotonic() < deadline, f"the gateway never took it: {why}\n{self.fleet.last_words('gateway')}"
            time.sleep(0.05)

    def _id(self, each: Asked) -> str:
        return each.execution_id or self._by_event.get(each.event_id, "")

    def _look(self) -> None:
        self.wire.look()
        told = self.wire.heard("response.results")
        for heard in told[self._looked_at :]:
            result = heard.read.fields
            if result.get("request"):
                event_id = result["request"]["causation"]["event_id"]
                if event_id:
                    self._by_event[event_id] = result["execution_id"]
            if result.get("stage") == "DISPATCHED" and result["deadline_ns"]:
                self._expiries[result["execution_id"]] = result["deadline_ns"]
            if result.get("stage") == "ENDED" and result["outcome"] not in NOT_FINAL:
                name = repr(sorted((key, repr(value)) for key, value in result.items()))
                self._finals[result["execution_id"]][name] = result
        self._looked_at = len(told)

    def _behind(self) -> list[str]:
        """Executions that history does not know to be over."""
        histories = self._histories()
        return [
            self._id(each)
            for each in self.asked
            if histories.get(self._id(each), {}).get("stage") != "ENDED"
            or histories[self._id(each)]["outcome"] == "UNKNOWN"
        ]

    def _histories(self) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        cursor = ""
        while True:
            page = self._page(cursor)
            found |= {row["id"]: row for row in page.json()["data"]}
            cursor = page.json()["next"] or ""
            if not cursor:
                return found

    def _page(self, cursor: str) -> httpx.Response:
        return self._insist(lambda: self._client.get("/api/v1/executions", params={"limit": 200, "cursor": cursor}))


def facts_of(pid: int) -> ProcessFacts:
    """A living process's facts, as our own adapter reads them: the start time is what a detector would print."""
    handle = _PROCESSES.open(pid)
    assert handle is not None, f"{pid} is gone"
    try:
        return handle.facts
    finally:
        handle.close()


_PROCESSES: Final = one_machine.local_processes()


def percentiles(seconds: Iterable[float]) -> str:
    """p50, p99 and the longest, for printing."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]

    return f"p50 {at(0.5):.2f} s, p99 {at(0.99):.2f} s, max {ordered[-1]:.2f} s over {len(ordered)}"
