"""From event to dead process, measured over many rounds, as the kernel's own clock sees both ends.

Called by the demo's command and the benchmarks. The clock starts before the event is handed to the gateway and stops
when the kernel says that the process ended.
"""

import time
from dataclasses import dataclass
from typing import Final

from workers.cli.demo import malware
from workers.cli.demo.story import SETTLE_S, Check, Stage

ROUNDS: Final = 50


@dataclass(frozen=True, slots=True)
class Latency:
    """Sorted times in milliseconds; what did not die is not among them."""

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


def event_to_dead(stage: Stage, rounds: int = ROUNDS) -> Latency:
    """Measure ``rounds`` detections, one after the other."""
    times = []
    for _ in range(rounds):
        specimen = malware.start(stage.scratch)
        begun = time.monotonic_ns()
        stage.detect(specimen.pid)
        died = specimen.died_at_ns(SETTLE_S)
        specimen.end()
        if died is not None:
            times.append((died - begun) / 1e6)
    return Latency(tuple(sorted(times)), rounds)
