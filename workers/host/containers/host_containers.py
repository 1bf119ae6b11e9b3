"""All runtimes of this host as one port ``Containers``, and the kernel behind them.

Made by bootstrap. Runtimes behind sockets that only root could have put there are asked first; one that two of them
show (dockerd and a CRI before it) is taken from the first. The kernel is asked for what none of them serves: its daemon
is away, or it is a user's own. Whose a claimed container is, its name tells. Knows no runtime's library.
"""

from collections.abc import Collection, Generator, Sequence
from dataclasses import replace
from typing import Final

from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, RestartPolicy, Runtime
from workers.host.containers.behind_sockets import BehindSockets, await_end
from workers.host.containers.ports import Containers, Refusal
from workers.system.ports import Clock

_UNSERVED: Final = "no runtime that is to be believed has it"


class HostContainers:
    """Any thread."""

    def __init__(self, *behind_sockets: BehindSockets, kernel: Containers, kernel_scheme: str, clock: Clock) -> None:
        """``kernel_scheme`` begins the names of the kernel's containers; of the others the first whose scheme fits
        has a container, so the one without any comes last there."""
        self._asked = behind_sockets
        self._kernel = kernel
        self._clock = clock
        by_length = sorted(behind_sockets, key=lambda each: -len(each.scheme))
        self._schemes: Sequence[tuple[str, Containers]] = [
            (kernel_scheme, kernel),
            *((each.scheme, each) for each in by_length),
        ]

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        """As the port says."""
        seen = [each.sighted(container_id) for each in self._asked]
        served: dict[str, ContainerFacts] = {}
        for facts in (facts for each in seen for facts in each.found):
            served.setdefault(facts.ref.id, facts)
        if served:
            return list(served.values())
        unheard = "; ".join(line for each in seen for line in each.unheard)
        absent = "" if any(not each.absent for each in seen) else "; ".join(each.absent for each in seen)
        known = self._kernel.find(container_id)
        why = unheard or absent
        if not known and why:
            raise TransientFailure(why)
        return [replace(facts, unserved=why or _UNSERVED, unheard=bool(why)) for facts in known]

    def inspect(self, ref: ContainerRef) -> ContainerFacts | None:
        """As the port says."""
        return self._of(ref).inspect(ref)

    def await_end(self, ref: ContainerRef, *, started_at_ns: int, timeout_s: float) -> ContainerFacts | None:
        """As the port says."""
        return await_end(self, self._clock, ref, started_at_ns=started_at_ns, timeout_s=timeout_s)

    def restrain(self, ref: ContainerRef, policy: RestartPolicy) -> Refusal | None:
        """As the port says."""
        return self._of(ref).restrain(ref, policy)

    def kill(self, ref: ContainerRef) -> Refusal | None:
        """As the port says."""
        return self._of(ref).kill(ref)

    def stop(self, ref: ContainerRef, *, grace_s: int) -> Refusal | None:
        """As the port says."""
        return self._of(ref).stop(ref, grace_s=grace_s)

    def start(self, ref: ContainerRef) -> Refusal | None:
        """As the port says."""
        return self._of(ref).start(ref)

    def pause(self, ref: ContainerRef) -> Refusal | None:
        """As the port says."""
        return self._of(ref).pause(ref)

    def unpause(self, ref: ContainerRef) -> Refusal | None:
        """As the port says."""
        return self._of(ref).unpause(ref)

    def logs(self, ref: ContainerRef, *, tail: int, since_ns: int) -> Generator[bytes]:
        """As the port says."""
        return self._of(ref).logs(ref, tail=tail, since_ns=since_ns)

    def own_ids(self) -> Collection[str]:
        """As the port says."""
        return {each for _, containers in self._schemes for each in containers.own_ids()}

    def runtimes(self) -> Sequence[Runtime]:
        """As the port says: each socket once, usable if any way of speaking to it is."""
        found: dict[str, Runtime] = {}
        for runtime in (runtime for each in self._asked for runtime in each.runtimes()):
            known = found.get(runtime.socket)
            found[runtime.socket] = runtime if known is None or not known.usable else known
        return list(found.values())

    def _of(self, ref: ContainerRef) -> Containers:
        return next(containers for scheme, containers in self._schemes if ref.runtime.startswith(scheme))
