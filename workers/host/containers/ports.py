"""The seam to container runtimes, and to the kernel's cgroups where no runtime serves an id.

Looking may be repeated and touches nothing. An effect that a runtime may have received and did not answer is
``Indeterminate``: the daemon may still carry it out, so only a later look can settle it. What a runtime surely refused
comes back as a ``Refusal``, not as an error.
"""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.domain.targets.container import ContainerFacts, ContainerRef, RestartPolicy, Runtime


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a runtime said against a call that it surely did not carry out."""

    message: str
    may_pass: bool
    """Whether the same call may work in a moment."""


class Containers(Protocol):
    """The containers of this host, of every runtime whose socket is to be trusted, and of the kernel where none of
    them serves an id. Any thread; every method asks a runtime and blocks: looks up to 10 s for each runtime, ``stop``
    its grace and 5 s.

    Looks touch nothing, may be repeated, and raise ``TransientFailure`` (``unavailable``) when a runtime cannot be
    reached or does not answer. Effects act on a whole id, never on a name, and say nothing about the state afterwards:
    look. They raise ``TransientFailure`` (``unavailable``) when the runtime surely did not get the call, and
    ``Indeterminate`` (``runtime_silent``) when it may have: then it may be carried out at any later time.
    """

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        """Every container whose id begins so. Raises only where nothing was found and a runtime that may have it was
        not heard, or there is no runtime."""

    def inspect(self, ref: ContainerRef) -> ContainerFacts | None:
        """It, now; None when its runtime has it no longer."""

    def await_end(self, ref: ContainerRef, *, started_at_ns: int, timeout_s: float) -> ContainerFacts | None:
        """Look until the run that started then is over, or the time is: what was seen last, None when it is gone."""

    def restrain(self, ref: ContainerRef, policy: RestartPolicy) -> Refusal | None:
        """Give it this restart policy. Idempotent."""

    def kill(self, ref: ContainerRef) -> Refusal | None:
        """SIGKILL to all of it. Not idempotent by itself: a second call meets whichever run there is, except by the
        kernel, which knows the run."""

    def stop(self, ref: ContainerRef, *, grace_s: int) -> Refusal | None:
        """Its stop signal, and SIGKILL after ``grace_s``. As ``kill``."""

    def start(self, ref: ContainerRef) -> Refusal | None:
        """A new run. Does nothing to one that runs."""

    def pause(self, ref: ContainerRef) -> Refusal | None:
        """Freeze all its processes. Refused where it is not running, or paused already."""

    def unpause(self, ref: ContainerRef) -> Refusal | None:
        """Thaw them. Refused where it is not paused."""

    def logs(self, ref: ContainerRef, *, tail: int, since_ns: int) -> Generator[bytes]:
        """What it wrote, oldest first, as far as its runtime kept it: pieces that are whole lines, each with its time,
        its stream, and whether it ended (``<time> <stdout|stderr> <F|P> <text>``). At most its last ``tail`` lines (0:
        all), none before ``since_ns`` (0: from the beginning). Asked for as it is consumed; close it to ask no more.
        Touches nothing. Raises, also on the way, ``TransientFailure``; ``PermanentFailure`` (``logs_unsupported`` where
        nobody but a runtime has them, ``logs_unavailable``, ``logs_unreadable``)."""

    def own_ids(self) -> Collection[str]:
        """The containers that this worker itself runs in. Asks no runtime."""

    def runtimes(self) -> Sequence[Runtime]:
        """The sockets that there are, trusted or not. Blocks at most a second for each that hangs; raises nothing."""
