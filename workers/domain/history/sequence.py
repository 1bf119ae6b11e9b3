"""Which record numbers of a sender arrived, and which are missing: this reveals lost and cloned signed records.

Pure. Called by the projector. A sender's results and heartbeats share one count but travel on two topics, so numbers
arrive out of order and a hole matters only when it stays.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from workers.domain.result import ActionResult

MAX_SPANS: Final = 256
"""Spans kept for one sender; beyond it the oldest hole is forgotten, so that no sender can grow its row without end."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """A set of numbers as sorted spans, first and last included, that neither touch nor overlap."""

    spans: tuple[tuple[int, int], ...] = ()

    def union(self, numbers: Iterable[int]) -> "Ranges":
        """With these numbers too."""
        return self.merged(Ranges(tuple((number, number) for number in set(numbers))))

    def merged(self, other: "Ranges") -> "Ranges":
        """With those of another too."""
        spans: list[tuple[int, int]] = []
        for first, last in sorted([*self.spans, *other.spans]):
            if spans and first <= spans[-1][1] + 1:
                spans[-1] = (spans[-1][0], max(last, spans[-1][1]))
            else:
                spans.append((first, last))
        while len(spans) > MAX_SPANS:
            spans[:2] = [(spans[0][0], spans[1][1])]
        return Ranges(tuple(spans))

    def __contains__(self, number: int) -> bool:
        """Whether it is one of these."""
        after = bisect_right(self.spans, number, key=lambda span: span[0])
        return after > 0 and number <= self.spans[after - 1][1]

    @property
    def holes(self) -> tuple[tuple[int, int], ...]:
        """The spans missing between the lowest and the highest number."""
        return tuple((before[1] + 1, after[0] - 1) for before, after in zip(self.spans, self.spans[1:], strict=False))

    def text(self) -> str:
        """``0-41,43-60``."""
        return ",".join(f"{first}-{last}" for first, last in self.spans)

    @classmethod
    def parse(cls, text: str) -> "Ranges":
        """What ``text`` wrote. Raises ``ValueError`` for anything else."""
        spans = (span.partition("-") for span in text.split(",") if span)
        return cls(tuple((int(first), int(last)) for first, _, last in spans))


def node_sender(node_id: str, incarnation: str) -> str:
    """The name of a node's count of signed records."""
    return f"node/{node_id}/{incarnation}"


def sender_of(result: ActionResult) -> str:
    """The sender whose count a result's record number belongs to."""
    return node_sender(result.node_id, result.incarnation) if result.producer == "node" else result.producer
