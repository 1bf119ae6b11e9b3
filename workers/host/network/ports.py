"""The seam to network namespaces and the rules that isolate them.

A namespace is held by descriptor. An isolation begins as a trial that opens by itself after ``TRIAL_S``, whatever
becomes of this worker, and is kept only once it was proven to work.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from workers.domain.targets.network import Barrier, Isolation, Lifeline, Lifelines


class NetworkNamespace(Protocol):
    """One network namespace, held: it is never confused with another that replaces it. One thread at a time; every
    method asks the kernel alone, in milliseconds, but ``blocks``, which takes up to a second.

    Every method raises ``PermanentFailure`` (``nftables``) when the kernel refuses what was asked, with its reason.
    """

    @property
    def namespace(self) -> int:
        """Its inode: which namespace this is, as long as it is held."""

    @property
    def own(self) -> bool:
        """Whether this worker itself runs in it."""

    def barrier(self) -> Barrier | None:
        """The isolation that is in effect, whatever made it."""

    def bypass(self) -> str:
        """What would carry packets past an isolation (an eBPF program and its interface); empty for nothing."""

    def interfaces(self) -> Sequence[str]:
        """The names of its interfaces but loopback, sorted."""

    def begin(self, isolation: Isolation) -> bool:
        """Apply it in one step, as a trial that opens by itself after ``TRIAL_S``, whatever becomes of this
        worker. False, and nothing is changed, where there is one already."""

    def keep(self, isolation: Isolation, tried: Barrier) -> bool:
        """Make the tried one permanent, in one step. False, and nothing is changed, where it is not there any more."""

    def end(self, barrier: Barrier) -> bool:
        """Remove this one. False where it is not there any more."""

    def blocks(self, isolation: Isolation, near: Sequence[str]) -> str:
        """Send packets that must not leave, towards these addresses and others, and check whether the kernel refused
        and counted them. Empty when it did, or when there is no route out at all; else what is wrong."""

    def close(self) -> None:
        """Idempotent."""


class Network(Protocol):
    """Network namespaces, and what this worker must reach. Any thread."""

    def unfit(self) -> str:
        """Why networks cannot be isolated here at all (no library, no privilege), and what to do; empty if they can."""

    def host(self) -> NetworkNamespace:
        """The namespace that this worker runs in.

        Raises:
            CommandRejected: it is not the host's (``not_host_network``), or may not be (``host_network_hidden``).
        """

    def of_process(self, pid: int) -> NetworkNamespace | None:
        """The namespace that a process is in; None when it has ended.

        Raises:
            PermanentFailure: the kernel denies it (``permission``).
        """

    def lifelines(self) -> Lifelines:
        """What this node depends on: brokers, object store, API server, and DNS where one of them has only a name. Asks
        brokers and DNS; blocks up to 15 s.

        Raises:
            TransientFailure: the brokers cannot be asked, or a name has no address now (``no_lifeline``).
        """

    def operators(self) -> Lifelines:
        """The operator's own list."""

    def answering(self, lifelines: Iterable[Lifeline]) -> frozenset[Lifeline]:
        """Those of one address and a TCP port that accept a new connection from where this worker runs. Blocks up to
        ``CONNECT_S``."""
