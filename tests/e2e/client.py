"""A client of one fleet: what it asked for, and what the world says came of it. The oracle of every test here.

The kernel reports a victim's death (`victim_processes.py`), directories and vault a file's fate (`victim_files.py`),
the independent reader an outcome on the wire (`wire.py`). History and gateway are under test: they are asked last, and
compared.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from tests.e2e import verdicts
from tests.e2e.fleet import DROPPED, Fleet
from tests.e2e.verdicts import Ending, Order, Verdict
from tests.e2e.victim_containers import VictimContainers
from tests.e2e.victim_files import VictimFiles
from tests.e2e.victim_processes import VictimProcesses, facts_of
from tests.e2e.wire import Wire
from workers.cli.demo.detection import falco_event

NOT_FINAL: Final = frozenset({None, "UNKNOWN"})
TAKES: Final = frozenset({"quarantine", "quarantine detected"})
CONTAINER: Final = {"pause": "pause_container", "stop": "stop_container", "kill container": "kill_container"}
"""What may be asked for of a container, and the action that does it."""
HOLDS: Final = TAKES | {"suspend", "pause", "stop"}
"""What an undo gives back."""
LOOKED_AT: Final = 4
"""How many are looked at in history when one to undo is wanted."""


class FleetClient:
    """One client of one fleet."""

    def __init__(self, fleet: Fleet, processes: VictimProcesses, files: VictimFiles, wire: Wire) -> None:
        self.fleet = fleet
        self.processes = processes
        self.files = files
        self.wire = wire
        self.orders: list[Order] = []
        self.containers: VictimContainers | None = None
        """Where a test has an engine."""
        self.storm = False
        """Whether the node may give something up, because it was killed in it three times and more."""
        self._client = fleet.http_client()
        self._by_event: dict[str, str] = {}
        self._records_read = 0
        self._finals: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        self._expiries: dict[str, int] = {}
        self._asks: dict[str, Callable[[], httpx.Response]] = {}
        self._not_undone: list[Order] = []
        self._not_resumed: list[Order] = []
        self._choosing = threading.Lock()
        wire.read_to_the_end()
        self._look()
        self._others = {execution_id for execution_id, finals in self._finals.items() if finals}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    # --- asking: processes ----------------------------------------------------------------------------------------

    def host(self) -> str:
        """Where a person wants it done."""
        return self.fleet.node_id

    def kill(self, *, ttl_s: int = 0) -> Order:
        """A person wants a process dead, by pid and start time."""
        return self._kill("kill", self.processes.spawn(), _in_time(ttl_s), ttl_s=ttl_s)

    def dry_run_report(self) -> Order:
        """A dry run: nothing may die."""
        return self._kill("dry run", self.processes.spawn(), {"DRY_RUN"}, dry_run=True)

    def protected(self) -> Order:
        """Somebody wants the node worker dead."""
        return self._kill("protected", self.fleet.running["node"].pid, {"REJECTED"})

    def brief(self) -> Order:
        """A kill with one second to live: done in time, or never."""
        return self.kill(ttl_s=1)

    def late(self) -> Order:
        """Asked for with one second to live, while nobody can take it in: it must never be done."""
        return self._kill("late", self.processes.spawn(), {"EXPIRED"}, ttl_s=1)

    def doubled(self) -> Order:
        """The same request twice, under one idempotency key: one execution."""
        order = self.kill()
        self._submit(order)
        return order

    def detected(self, *, times: int = 1) -> Order:
        """A detector reports a process; the responder's rule wants it dead."""
        pid = self.processes.spawn()
        facts = facts_of(pid)
        event = falco_event(facts, ())
        # A detector's start time is never before the true one; ours may be, by its grain.
        event["output_fields"]["proc.pid.ts"] = facts.started_at_ns + facts.start_grain_ns
        return self._report(Order("event", frozenset({"COMPLETED"}), pid=pid), event, times)

    def detected_twice(self) -> Order:
        """The same alert twice, as a detector that was not sure would send it: one execution."""
        return self.detected(times=2)

    def kill_tree(self) -> Order:
        """A person wants a process and its children dead."""
        return self._kill("kill tree", self.processes.spawn_tree(), {"COMPLETED"}, parameters={"tree": True})

    def suspend(self) -> Order:
        """A person wants a process stopped."""
        order = self._kill("suspend", self.processes.spawn(), {"COMPLETED"}, action="suspend_process")
        self._not_resumed.append(order)
        return order

    def resume(self) -> Order:
        """Somebody wants a process to go on, the first that stands still as far as history knows."""
        subject = self._undoable(self._not_resumed)
        return self.suspend() if subject is None else self._give_back(subject)

    # --- asking: containers ---------------------------------------------------------------------------------------

    def contain(self, kind: str) -> Order:
        """A person wants a container paused, stopped or killed; a process where there are enough of them."""
        if self.containers is None or self.containers.enough:
            return self.kill()
        container_id = self.containers.spawn()
        order = Order(kind, frozenset({"COMPLETED"}), container_id=container_id)
        return self._person(order, CONTAINER[kind], {"container": {"id": container_id}}, {})

    # --- asking: files --------------------------------------------------------------------------------------------

    def quarantine(self, *, ttl_s: int = 0) -> Order:
        """A person wants a file away."""
        order = self._take("quarantine", self.files.spawn(), _in_time(ttl_s), ttl_s=ttl_s)
        self._not_undone.append(order)
        return order

    def quarantine_doubled(self) -> Order:
        """The same request twice, under one idempotency key: one execution."""
        order = self.quarantine()
        self._submit(order)
        return order

    def quarantine_dry_run(self) -> Order:
        """A dry run: nothing may be touched."""
        return self._take("quarantine dry run", self.files.spawn(), {"DRY_RUN"}, dry_run=True)

    def quarantine_brief(self) -> Order:
        """With one second to live: taken in time, or never touched."""
        return self.quarantine(ttl_s=1)

    def quarantine_absent(self) -> Order:
        """Nothing has the name."""
        return self._take("absent", self.files.spawn().with_name("absent"), {"REJECTED"})

    def quarantine_detected(self) -> Order:
        """A detector reports a file; the responder's rule wants it away."""
        path = self.files.spawn()
        event = falco_event(facts_of(os.getpid()), ())
        event |= {"rule": DROPPED, "output_fields": event["output_fields"] | {"fd.name": str(path), "fd.type": "file"}}
        order = self._report(Order("quarantine detected", frozenset({"COMPLETED"}), path=path), event, 1)
        self._not_undone.append(order)
        return order

    def undo(self) -> Order:
        """Somebody wants a file back, the first that is away as far as history knows; where none is, one more goes."""
        subject = self._undoable(self._not_undone)
        return self.quarantine() if subject is None else self._give_back(subject)

    def give_everything_back(self, within_s: float = 60.0) -> None:
        """Undo every quarantine and suspension that holds, until all are undone; everything must have settled. Who asks
        in the moment between the wire's news and the dispatcher's is told that it has not ended yet, and asks again."""
        deadline = time.monotonic() + within_s
        while held := self._held():
            assert time.monotonic() < deadline, f"never given back: {[each.execution_id for each in held]}"
            for each in held:
                self._give_back(each)
            self.settled(within_s)

    # --- asking: all sorts ----------------------------------------------------------------------------------------

    def mixed(
        self,
        count: int,
        *,
        randomness: random.Random,
        at_once: int = 4,
        pause_s: float = 0.0,
        hard: bool = False,
    ) -> None:
        """Something of everything, several at a time; returns when the gateway has taken all of it. `hard` adds
        requests for the node worker's own death, and some that may well expire."""
        kinds: list[Callable[[], Order]] = [
            self.kill,
            self.detected,
            self.dry_run_report,
            self.doubled,
            self.detected_twice,
        ]
        weights = [4, 4, 1, 1, 1]
        kinds += [self.quarantine, self.undo, self.quarantine_detected, self.quarantine_doubled]
        weights += [3, 3, 1, 1]
        kinds += [self.quarantine_dry_run, self.quarantine_absent]
        weights += [1, 1]
        kinds += [self.kill_tree, self.suspend, self.resume]
        weights += [1, 1, 1]
        if self.containers is not None:
            kinds += [
                lambda: self.contain("pause"),
                lambda: self.contain("stop"),
                lambda: self.contain("kill container"),
            ]
            weights += [1, 1, 1]
        if hard:
            kinds += [self.protected, self.brief, self.quarantine_brief]
            weights += [1, 1, 1]
        chosen = randomness.choices(kinds, weights, k=count)

        def one(ask: Callable[[], Order]) -> None:
            ask()
            time.sleep(pause_s)

        with ThreadPoolExecutor(at_once) as together:
            for _ in together.map(one, chosen):
                pass

    # --- looking --------------------------------------------------------------------------------------------------

    def open(self) -> list[Order]:
        """What has no final outcome on the wire yet."""
        self._look()
        return [each for each in self.orders if not self._finals.get(self._id(each))]

    def settled(self, within_s: float = 60.0, *, since: float | None = None) -> float:
        """Wait until everything asked for has ended on the wire and in history; the seconds since `since`."""
        began = time.monotonic()
        while True:
            waiting = self.open()
            if not waiting and not self._behind():
                return time.monotonic() - (since or began)
            assert time.monotonic() - began < within_s, (
                f"{self.fleet.log_tails()}\nnot settled within {within_s} s: "
                f"{[(each.kind, self._id(each)) for each in waiting[:5]]} of {len(waiting)}, "
                f"history lacks {self._behind()[:3]}"
            )

    def outcome(self, each: Order) -> str:
        """Its final outcome on the wire; empty while there is none."""
        return next((str(final["outcome"]) for final in self._finals.get(self._id(each), {}).values()), "")

    def nothing_lost(self) -> None:
        """Every file's whole content is somewhere. To be asked while no node runs."""
        lost = self.files.lost()
        assert not lost, f"nowhere: {[str(path) for path in lost]}\n{self.fleet.log_tails('node')}"

    def judge(self) -> Verdict:
        """Everything must have ended exactly once, in a way that is allowed, and the world must agree."""
        self.wire.read_to_the_end()
        self._look()
        verdict = Verdict(len(self.orders))
        problems = [f"half a copy in the vault: {name}" for name in self.files.litter()]
        intents = self._intents()
        histories = self._histories()
        for each in self.orders:
            each.execution_id = execution_id = self._id(each)
            finals = list(self._finals.get(execution_id, {}).values())
            if not finals:
                verdict.lost += 1
                continue
            # The dispatcher may prove from outside that a command was never delivered, and its node say later that it
            # had expired: two tellings of one outcome. Two words of one producer, or two outcomes, are two ends.
            if len({final["outcome"] for final in finals}) > 1 or len({f["producer"] for f in finals}) < len(finals):
                verdict.twice += 1
            ending = Ending(
                finals[0]["outcome"], finals[0]["code"], self._expiries.get(execution_id, 0), intents[execution_id]
            )
            verdict.outcomes[ending.outcome] += 1
            verdict.taken += each.kind in TAKES and ending.outcome == "COMPLETED"
            verdict.given_back += each.undoes is not None and ending.outcome == "COMPLETED"
            output = (*self._complaints(each, ending), *verdicts.in_history(ending, histories.get(execution_id, {})))
            problems += [f"{each.kind} {execution_id} {complaint}" for complaint in output]
        problems += self._about_the_whole(histories)
        reported = Counter(each.value for each in self.wire.records("response.results"))
        verdict.wire_repeats = sum(reported.values()) - len(reported)
        assert (verdict.lost, verdict.twice) == (0, 0), f"{self.fleet.log_tails()}\n{verdict}"
        assert not problems, f"{self.fleet.log_tails()}\n{verdict}: {problems[:5]} of {len(problems)}"
        return verdict

    def _complaints(self, each: Order, ending: Ending) -> Iterable[str]:
        if each.container_id and self.containers is not None:
            undone = [self.outcome(other) for other in self.orders if other.undoes is each]
            return verdicts.of_container(each, ending, self.containers.state(each.container_id), undone)
        if self.storm and verdicts.is_given_up(ending):
            undone = [self.outcome(other) for other in self.orders if other.undoes is each]
            return verdicts.of_given_up(each, ending, self.processes, self.files, undone)
        if each.undoes is not None:
            return verdicts.of_undo(each, ending)
        undone = [self.outcome(other) for other in self.orders if other.undoes is each]
        if each.kind == "suspend":
            return verdicts.of_suspension(each, ending, self.processes, undone)
        if each.path is None:
            return verdicts.of_process(each, ending, self.processes)
        return verdicts.of_file(each, ending, self.files, undone)

    def _about_the_whole(self, histories: Mapping[str, Mapping[str, Any]]) -> list[str]:
        problems = []
        ids = {self._id(each) for each in self.orders}
        if len(ids) != len(self.orders):
            problems.append("two requests became one execution")
        strangers = {i for i, finals in self._finals.items() if finals} - ids - self._others
        if strangers:
            problems.append(f"ended, but never asked for: {sorted(strangers)[:3]}")
        again = [other for other in self._others if len({f["outcome"] for f in self._finals[other].values()}) > 1]
        if again:
            problems.append(f"ended long ago, and now again: {again[:3]}")
        held = {each.execution_id for each in self._held()}
        files = {each.execution_id for each in self.orders if each.kind in HOLDS}
        contained = {row["id"] for row in self._insist(lambda: self._client.get("/api/v1/contained")).json()["data"]}
        if contained & files != held:
            problems.append(f"contained in history {len(contained & files)}, in the world {len(held)}")
        return problems

    # --- inside ---------------------------------------------------------------------------------------------------

    def _kill(
        self, kind: str, pid: int, outcomes: Iterable[str], *, action: str = "kill_process", **more: Any
    ) -> Order:
        target = {"process": {"pid": pid, "start_time_ns": facts_of(pid).started_at_ns}}
        return self._person(Order(kind, frozenset(outcomes), pid=pid), action, target, more)

    def _take(self, kind: str, path: Path, outcomes: Iterable[str], **more: Any) -> Order:
        target = {"file": {"path": str(path)}}
        return self._person(Order(kind, frozenset(outcomes), path=path), "file_quarantine", target, more)

    def _person(self, order: Order, action: str, target: Mapping[str, Any], more: Mapping[str, Any]) -> Order:
        body = {"action": action, "host": self.host(), "target": target, "reason": f"test: {order.kind}", **more}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        order.key = headers["Idempotency-Key"]
        self._asks[order.key] = lambda: self._client.post("/api/v1/executions", json=body, headers=headers)
        self.orders.append(order)
        self._submit(order)
        return order

    def _give_back(self, subject: Order) -> Order:
        path, headers = f"/api/v1/executions/{self._id(subject)}", {"Idempotency-Key": uuid.uuid4().hex}
        may = frozenset({"COMPLETED", "REJECTED"})
        may |= {"FAILED"} if self.storm else set()
        order = Order("undo", may, path=subject.path, undoes=subject, key=headers["Idempotency-Key"])
        self._asks[order.key] = lambda: self._client.delete(path, headers=headers)
        self.orders.append(order)
        self._submit(order)
        return order

    def _undoable(self, among: list[Order]) -> Order | None:
        """The first that history knows to be done, and that nobody was asked to undo; it is taken off."""
        with self._choosing:
            for each in among[:LOOKED_AT]:
                execution_id = self._id(each)
                answer = self._ask_once(f"/api/v1/executions/{execution_id}") if execution_id else None
                outcome = answer.json().get("outcome") if answer is not None and answer.is_success else None
                if outcome not in NOT_FINAL:
                    among.remove(each)
                if outcome == "COMPLETED":
                    return each
        return None

    def _ask_once(self, path: str) -> httpx.Response | None:
        """The gateway's answer; None where it died meanwhile."""
        try:
            return self._client.get(path)
        except httpx.TransportError:
            return None

    def _held(self) -> list[Order]:
        """Quarantines and suspensions that were done and not undone, as read from the wire."""
        back = [
            id(each.undoes) for each in self.orders if each.undoes is not None and self.outcome(each) == "COMPLETED"
        ]
        done = [each for each in self.orders if each.kind in HOLDS and self.outcome(each) in {"COMPLETED", "PARTIAL"}]
        return [each for each in done if id(each) not in back]

    def _report(self, order: Order, event: Mapping[str, Any], times: int) -> Order:
        order.event_id = event["uuid"]
        self.orders.append(order)
        for _ in range(times):
            self._insist(lambda: self._client.post("/api/v1/events", json=event))
        return order

    def _submit(self, order: Order) -> None:
        answer = self._insist(self._asks[order.key])
        found = answer.json()["id"]
        assert order.execution_id in ("", found), f"{order.kind}: one key, two executions"
        order.execution_id = found

    def _intents(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for record in self.wire.audit():
            if record["kind"] == "intent":
                found[record["execution_id"]].append(record["at_ns"])
        return found

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
            assert time.monotonic() < deadline, f"{self.fleet.log_tails('gateway')}\nthe gateway never took it: {why}"
            time.sleep(0.05)

    def _id(self, each: Order) -> str:
        return each.execution_id or self._by_event.get(each.event_id, "")

    def _look(self) -> None:
        self.wire.look()
        records = self.wire.records("response.results")
        for record in records[self._records_read :]:
            result = record.read.fields
            if result.get("request"):
                event_id = result["request"]["causation"]["event_id"]
                if event_id:
                    self._by_event[event_id] = result["execution_id"]
            if result.get("stage") == "DISPATCHED" and result["deadline_ns"]:
                self._expiries[result["execution_id"]] = result["deadline_ns"]
            if result.get("stage") == "ENDED" and result["outcome"] not in NOT_FINAL:
                name = repr(sorted((key, repr(value)) for key, value in result.items()))
                self._finals[result["execution_id"]][name] = result
        self._records_read = len(records)

    def _behind(self) -> list[str]:
        """Executions that history does not know to be over."""
        histories = self._histories()
        return [
            self._id(each)
            for each in self.orders
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


def _in_time(ttl_s: int) -> set[str]:
    """What may come of something that has so long to live; 0 is long enough."""
    return {"COMPLETED", "EXPIRED"} if ttl_s else {"COMPLETED"}


def percentiles(seconds: Iterable[float]) -> str:
    """p50, p99 and the longest, for printing."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]

    return f"p50 {at(0.5):.2f} s, p99 {at(0.99):.2f} s, max {ordered[-1]:.2f} s over {len(ordered)}"
