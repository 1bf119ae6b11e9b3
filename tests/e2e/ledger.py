"""What the test client asked for and what it saw for itself: the oracle of every test here.

A victim's death is told by the kernel (`morgue.py`), a file's fate by directories and vault (`shelf.py`), an outcome by
the independent reader on the wire. History and gateway are the accused: they are asked last, and compared.
"""

from __future__ import annotations

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

from tests.e2e import judging
from tests.e2e.fleet import DROPPED, Fleet
from tests.e2e.judging import Asked, Heard, Verdict
from tests.e2e.morgue import Morgue, facts_of
from tests.e2e.shelf import Shelf
from tests.e2e.wire import Wire
from workers.cli.demo.detection import falco_event

NOT_FINAL: Final = frozenset({None, "UNKNOWN"})
TAKES: Final = frozenset({"quarantine", "quarantine detected"})
HOLDS: Final = TAKES | {"suspend"}
"""What an undo gives back."""
LOOKED_AT: Final = 4
"""How many are looked at in history when one to undo is wanted."""


class Ledger:
    """One client of one fleet."""

    def __init__(self, fleet: Fleet, morgue: Morgue, shelf: Shelf, wire: Wire) -> None:
        self.fleet = fleet
        self.morgue = morgue
        self.shelf = shelf
        self.wire = wire
        self.asked: list[Asked] = []
        self._client = fleet.client()
        self._by_event: dict[str, str] = {}
        self._looked_at = 0
        self._finals: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        self._expiries: dict[str, int] = {}
        self._asks: dict[str, Callable[[], httpx.Response]] = {}
        self._not_undone: list[Asked] = []
        self._not_resumed: list[Asked] = []
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

    def kill(self, *, ttl_s: int = 0) -> Asked:
        """A person wants a process dead, by pid and start time."""
        return self._kill("kill", self.morgue.spawn(), _in_time(ttl_s), ttl_s=ttl_s)

    def dry_run_report(self) -> Asked:
        """A dry run: nothing may die."""
        return self._kill("dry run", self.morgue.spawn(), {"DRY_RUN"}, dry_run=True)

    def protected(self) -> Asked:
        """Somebody wants the node worker dead."""
        return self._kill("protected", self.fleet.running["node"].pid, {"REJECTED"})

    def brief(self) -> Asked:
        """A kill with one second to live: done in time, or never."""
        return self.kill(ttl_s=1)

    def late(self) -> Asked:
        """Asked for with one second to live, while nobody can take it in: it must never be done."""
        return self._kill("late", self.morgue.spawn(), {"EXPIRED"}, ttl_s=1)

    def doubled(self) -> Asked:
        """The same request twice, under one idempotency key: one execution."""
        asked = self.kill()
        self._submit(asked)
        return asked

    def detected(self, *, times: int = 1) -> Asked:
        """A detector reports a process; the responder's rule wants it dead."""
        pid = self.morgue.spawn()
        facts = facts_of(pid)
        event = falco_event(facts, ())
        # A detector's start time is never before the true one; ours may be, by its grain.
        event["output_fields"]["proc.pid.ts"] = facts.started_at_ns + facts.start_grain_ns
        return self._report(Asked("event", frozenset({"COMPLETED"}), pid=pid), event, times)

    def detected_twice(self) -> Asked:
        """The same alert twice, as a detector that was not sure would send it: one execution."""
        return self.detected(times=2)

    def kill_tree(self) -> Asked:
        """A person wants a process and its children dead."""
        return self._kill("kill tree", self.morgue.spawn_tree(), {"COMPLETED"}, parameters={"tree": True})

    def suspend(self) -> Asked:
        """A person wants a process stopped."""
        asked = self._kill("suspend", self.morgue.spawn(), {"COMPLETED"}, action="suspend_process")
        self._not_resumed.append(asked)
        return asked

    def resume(self) -> Asked:
        """Somebody wants a process to go on, the first that stands still as far as history knows."""
        subject = self._undoable(self._not_resumed)
        return self.suspend() if subject is None else self._give_back(subject)

    # --- asking: files --------------------------------------------------------------------------------------------

    def quarantine(self, *, ttl_s: int = 0) -> Asked:
        """A person wants a file away."""
        asked = self._take("quarantine", self.shelf.spawn(), _in_time(ttl_s), ttl_s=ttl_s)
        self._not_undone.append(asked)
        return asked

    def quarantine_doubled(self) -> Asked:
        """The same request twice, under one idempotency key: one execution."""
        asked = self.quarantine()
        self._submit(asked)
        return asked

    def quarantine_rehearsed(self) -> Asked:
        """A dry run: nothing may be touched."""
        return self._take("quarantine dry run", self.shelf.spawn(), {"DRY_RUN"}, dry_run=True)

    def quarantine_brief(self) -> Asked:
        """With one second to live: taken in time, or never touched."""
        return self.quarantine(ttl_s=1)

    def quarantine_absent(self) -> Asked:
        """Nothing has the name."""
        return self._take("absent", self.shelf.spawn().with_name("absent"), {"NO_ACTION"})

    def quarantine_detected(self) -> Asked:
        """A detector reports a file; the responder's rule wants it away."""
        path = self.shelf.spawn()
        event = falco_event(facts_of(self.fleet.running["node"].pid), ())
        event |= {"rule": DROPPED, "output_fields": event["output_fields"] | {"fd.name": str(path), "fd.type": "file"}}
        asked = self._report(Asked("quarantine detected", frozenset({"COMPLETED"}), path=path), event, 1)
        self._not_undone.append(asked)
        return asked

    def undo(self) -> Asked:
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
        kinds: list[Callable[[], Asked]] = [
            self.kill,
            self.detected,
            self.dry_run_report,
            self.doubled,
            self.detected_twice,
        ]
        weights = [4, 4, 1, 1, 1]
        kinds += [self.quarantine, self.undo, self.quarantine_detected, self.quarantine_doubled]
        weights += [3, 3, 1, 1]
        kinds += [self.quarantine_rehearsed, self.quarantine_absent]
        weights += [1, 1]
        kinds += [self.kill_tree, self.suspend, self.resume]
        weights += [1, 1, 1]
        if hard:
            kinds += [self.protected, self.brief, self.quarantine_brief]
            weights += [1, 1, 1]
        chosen = randomness.choices(kinds, weights, k=count)

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

    def outcome(self, each: Asked) -> str:
        """What was heard of it in the end; empty while nothing was."""
        return next((str(final["outcome"]) for final in self._finals.get(self._id(each), {}).values()), "")

    def nothing_lost(self) -> None:
        """Every file's whole content is somewhere. To be asked while no node runs."""
        lost = self.shelf.lost()
        assert not lost, f"nowhere: {[str(path) for path in lost]}\n{self.fleet.last_words('node')}"

    def judge(self) -> Verdict:
        """Everything must have ended exactly once, in a way that is allowed, and the world must agree."""
        self.wire.read_to_the_end()
        self._look()
        verdict = Verdict(len(self.asked))
        problems = [f"half a copy in the vault: {name}" for name in self.shelf.litter()]
        intents = self._intents()
        histories = self._histories()
        for each in self.asked:
            each.execution_id = execution_id = self._id(each)
            finals = list(self._finals.get(execution_id, {}).values())
            if not finals:
                verdict.lost += 1
                continue
            # The dispatcher may prove from outside that a command was never delivered, and its node say later that it
            # had expired: two tellings of one outcome. Two words of one producer, or two outcomes, are two ends.
            if len({final["outcome"] for final in finals}) > 1 or len({f["producer"] for f in finals}) < len(finals):
                verdict.twice += 1
            heard = Heard(
                finals[0]["outcome"], finals[0]["code"], self._expiries.get(execution_id, 0), intents[execution_id]
            )
            verdict.outcomes[heard.outcome] += 1
            verdict.taken += each.kind in TAKES and heard.outcome == "COMPLETED"
            verdict.given_back += each.undoes is not None and heard.outcome == "COMPLETED"
            said = (*self._complaints(each, heard), *judging.in_history(heard, histories.get(execution_id, {})))
            problems += [f"{each.kind} {execution_id} {complaint}" for complaint in said]
        problems += self._about_the_whole(histories)
        told = Counter(each.value for each in self.wire.heard("response.results"))
        verdict.wire_repeats = sum(told.values()) - len(told)
        assert (verdict.lost, verdict.twice) == (0, 0), f"{verdict}\n{self.fleet.last_words()}"
        assert not problems, f"{verdict}: {problems[:5]} of {len(problems)}\n{self.fleet.last_words()}"
        return verdict

    def _complaints(self, each: Asked, heard: Heard) -> Iterable[str]:
        if each.undoes is not None:
            return judging.of_undo(each, heard)
        undone = [self.outcome(other) for other in self.asked if other.undoes is each]
        if each.kind == "suspend":
            return judging.of_suspension(each, heard, self.morgue, undone)
        if each.path is None:
            return judging.of_process(each, heard, self.morgue)
        return judging.of_file(each, heard, self.shelf, undone)

    def _about_the_whole(self, histories: Mapping[str, Mapping[str, Any]]) -> list[str]:
        problems = []
        ids = {self._id(each) for each in self.asked}
        if len(ids) != len(self.asked):
            problems.append("two requests became one execution")
        strangers = {i for i, finals in self._finals.items() if finals} - ids - self._others
        if strangers:
            problems.append(f"ended, but never asked for: {sorted(strangers)[:3]}")
        again = [other for other in self._others if len({f["outcome"] for f in self._finals[other].values()}) > 1]
        if again:
            problems.append(f"ended long ago, and now again: {again[:3]}")
        held = {each.execution_id for each in self._held()}
        files = {each.execution_id for each in self.asked if each.kind in HOLDS}
        contained = {row["id"] for row in self._insist(lambda: self._client.get("/api/v1/contained")).json()["data"]}
        if contained & files != held:
            problems.append(f"contained in history {len(contained & files)}, in the world {len(held)}")
        return problems

    # --- inside ---------------------------------------------------------------------------------------------------

    def _kill(
        self, kind: str, pid: int, outcomes: Iterable[str], *, action: str = "kill_process", **more: Any
    ) -> Asked:
        target = {"process": {"pid": pid, "start_time_ns": facts_of(pid).started_at_ns}}
        return self._person(Asked(kind, frozenset(outcomes), pid=pid), action, target, more)

    def _take(self, kind: str, path: Path, outcomes: Iterable[str], **more: Any) -> Asked:
        target = {"file": {"path": str(path)}}
        return self._person(Asked(kind, frozenset(outcomes), path=path), "file_quarantine", target, more)

    def _person(self, asked: Asked, action: str, target: Mapping[str, Any], more: Mapping[str, Any]) -> Asked:
        body = {"action": action, "host": self.host(), "target": target, "reason": f"test: {asked.kind}", **more}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        asked.key = headers["Idempotency-Key"]
        self._asks[asked.key] = lambda: self._client.post("/api/v1/executions", json=body, headers=headers)
        self.asked.append(asked)
        self._submit(asked)
        return asked

    def _give_back(self, subject: Asked) -> Asked:
        path, headers = f"/api/v1/executions/{self._id(subject)}", {"Idempotency-Key": uuid.uuid4().hex}
        may = frozenset({"COMPLETED", "REJECTED"})
        asked = Asked("undo", may, path=subject.path, undoes=subject, key=headers["Idempotency-Key"])
        self._asks[asked.key] = lambda: self._client.delete(path, headers=headers)
        self.asked.append(asked)
        self._submit(asked)
        return asked

    def _undoable(self, among: list[Asked]) -> Asked | None:
        """The first that history knows to be done, and that nobody was asked to undo; it is taken off."""
        with self._choosing:
            for each in among[:LOOKED_AT]:
                execution_id = self._id(each)
                answer = self._client.get(f"/api/v1/executions/{execution_id}") if execution_id else None
                outcome = answer.json().get("outcome") if answer is not None and answer.is_success else None
                if outcome not in NOT_FINAL:
                    among.remove(each)
                if outcome == "COMPLETED":
                    return each
        return None

    def _held(self) -> list[Asked]:
        """Quarantines and suspensions that were done and not undone, as heard on the wire."""
        back = [id(each.undoes) for each in self.asked if each.undoes is not None and self.outcome(each) == "COMPLETED"]
        done = [each for each in self.asked if each.kind in HOLDS and self.outcome(each) == "COMPLETED"]
        return [each for each in done if id(each) not in back]

    def _report(self, asked: Asked, event: Mapping[str, Any], times: int) -> Asked:
        asked.event_id = event["uuid"]
        self.asked.append(asked)
        for _ in range(times):
            self._insist(lambda: self._client.post("/api/v1/events", json=event))
        return asked

    def _submit(self, asked: Asked) -> None:
        answer = self._insist(self._asks[asked.key])
        found = answer.json()["id"]
        assert asked.execution_id in ("", found), f"{asked.kind}: one key, two executions"
        asked.execution_id = found

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


def _in_time(ttl_s: int) -> set[str]:
    """What may come of something that has so long to live; 0 is long enough."""
    return {"COMPLETED", "EXPIRED"} if ttl_s else {"COMPLETED"}


def percentiles(seconds: Iterable[float]) -> str:
    """p50, p99 and the longest, for printing."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]

    return f"p50 {at(0.5):.2f} s, p99 {at(0.99):.2f} s, max {ordered[-1]:.2f} s over {len(ordered)}"
