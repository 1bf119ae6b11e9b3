"""The seam to container runtimes, and to the kernel's cgroups where no runtime serves an id.

``Containers.find`` returns which containers there are, ``Containers.open`` the handle of one that a claim names: it has
what an action may do to a container. Questions may be repeated and touch nothing. An effect that a runtime may have
received and did not answer is ``Indeterminate``: the daemon may still carry it out, so only a later question can settle
it. What a runtime surely refused comes back as a ``Refusal``, not as an error.
"""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.domain.targets.container import ContainerFacts, ContainerRef, RestartPolicy, Runtime


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a runtime surely did not carry out a call."""

    message: str
    may_pass: bool
    """Whether the same call may work in a moment."""
    detail: str = ""
    """The runtime's own text."""


class ContainerHandle(Protocol):
    """One container, by its whole id and its runtime, never by a name. Any thread; nothing is held open.

    Every method asks the runtime and blocks: questions up to 10 s, ``stop`` its grace and 5 s. The runtime's socket is
    checked again at each call. Questions raise ``TransientFailure`` (``unavailable``) when the runtime cannot be
    reached or does not answer. Effects return nothing about the state afterwards: ``inspect`` it. They raise
    ``TransientFailure`` (``unavailable``) when the runtime surely did not get the call, and ``Indeterminate``
    (``runtime_silent``) when it may have: then it may be carried out at any later time.
    """

    def inspect(self) -> ContainerFacts | None:
        """Its present facts; None when its runtime has it no longer."""

    def restrain(self, policy: RestartPolicy) -> Refusal | None:
        """Give it this restart policy. Idempotent."""

    def kill(self) -> Refusal | None:
        """SIGKILL to all of it. Not idempotent by itself: a second call meets whichever run there is, except by the
        kernel, which knows the run."""

    def stop(self, *, grace_s: int) -> Refusal | None:
        """Its stop signal, and SIGKILL after ``grace_s``. As ``kill``."""

    def start(self) -> Refusal | None:
        """A new run. Does nothing to one that runs."""

    def pause(self) -> Refusal | None:
        """Freeze all its processes. Refused where it is not running, or paused already."""

    def unpause(self) -> Refusal | None:
        """Thaw them. Refused where it is not paused."""

    def logs(self, *, tail: int, since_ns: int) -> Generator[bytes]:
        """What it wrote, oldest first, as far as its runtime kept it: pieces that are whole lines, each with its time,
        its stream, and whether it ended (``<time> <stdout|stderr> <F|P> <text>``). At most its last ``tail`` lines (0:
        all), none before ``since_ns`` (0: from the beginning). Requested as it is consumed; close it to request no
        more. Touches nothing. Raises, also on the way, ``TransientFailure``; ``PermanentFailure`` (``logs_unsupported``
        where only a runtime could have them, ``logs_unavailable``, ``logs_unreadable``)."""


class Containers(Protocol):
    """The containers of this host, of every runtime whose socket can be trusted, and of the kernel where none of them
    serves an id. Any thread."""

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        """Every container whose id begins so. Asks every runtime, up to 10 s each. Raises ``TransientFailure``
        (``unavailable``) only where nothing was found and a runtime that may have it did not answer, or there is no
        runtime."""

    def served(self, container_id: str) -> ContainerFacts | None:
        """The container of this whole id as a runtime has it; None where every runtime answered and none has it. Unlike
        ``find`` it never asks the kernel instead, and gives each runtime that hangs a second. Raises
        ``TransientFailure`` (``unavailable`` where one that may have it did not answer, ``no_runtime`` where there is
        none to ask)."""

    def open(self, ref: ContainerRef) -> ContainerHandle:
        """The handle of a container that was found before, by this process or an earlier one. Asks nothing."""

    def own_ids(self) -> Collection[str]:
        """The containers that this worker itself runs in. Asks no runtime."""

    def runtimes(self) -> Sequence[Runtime]:
        """The sockets that there are, trusted or not. Blocks at most a second for each that hangs; raises nothing."""
