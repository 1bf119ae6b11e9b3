"""The time from event to dead process, measured over many rounds.

Called by ``run``. The clock starts before the event is submitted to the gateway and stops when the kernel reports the
end of the process.
"""

import time
from dataclasses import dataclass
from typing import Final

from workers.cli.demo import malware
from workers.cli.demo.scenarios import SETTLE_S, Check, Demo

ROUNDS: Final = 50


@dataclass(frozen=True, slots=True)
class Latency:
    """Sorted times in milliseconds, without the processes that did not die."""

    sorted_ms: tuple[float, ...]
    rounds: int

    def percentile(self, share: float) -> float:
        """The smallest time that ``share`` of all measured rounds did not exceed (nearest rank)."""
        rank = max(1, -(-int(share * 100) * len(self.sorted_ms) // 100))
        return self.sorted_ms[rank - 1]

    def check(self) -> Check:
        """Whether every round's process died."""
        return Check(
            f"{self.rounds} of {self.rounds} died", len(self.sorted_ms) == self.rounds, str(len(self.sorted_ms))
        )


def event_to_dead(demo: Demo, rounds: int = ROUNDS) -> Latency:
    """Measure ``rounds`` detections, one after the other."""
    times = []
    for _ in range(rounds):
        process = malware.start(demo.scratch)
        begun = time.monotonic_ns()
        demo.detect(process.pid)
        died = process.died_at_ns(SETTLE_S)
        process.end()
        if died is not None:
            times.append((died - begun) / 1e6)
    return Latency(tuple(sorted(times)), rounds)
