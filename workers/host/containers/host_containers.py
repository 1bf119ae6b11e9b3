"""The port ``Containers``: all runtimes of this host together, and the kernel behind them.

Made by wiring. Runtimes behind sockets that only root could have created are asked first; a container that two of them
show (dockerd and a CRI in front of it) is taken from the first. The kernel is asked for what none of them serves: its
daemon is unavailable, or it belongs to a user's own runtime. Which of them has a claimed container follows from the
name of its runtime. Knows no runtime's library.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from workers.domain.errors import TransientFailure
from workers.domain.targets.container import ContainerFacts, ContainerRef, Runtime, unserved
from workers.host.containers.kernel import SCHEME
from workers.host.containers.ports import ContainerHandle, Containers
from workers.host.containers.runtime_sockets import RuntimeSockets

_OWN: Final = re.compile(r"/(?:containers|overlay-containers|sandboxes)/([0-9a-f]{64})/")
_OWN_FILES: Final = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
"""Files that a runtime mounts into each of its containers, out of a directory that has the container's id."""


class HostContainers:
    """Any thread."""

    def __init__(self, *kinds: RuntimeSockets[Any], kernel: Containers | None, root: Path = Path("/")) -> None:
        """Of ``kinds`` the one with the longest scheme that fits has a container. Without a ``kernel`` only runtimes
        are asked. ``root`` is where /proc is read."""
        self._kinds = kinds
        self._kernel = kernel
        self._root = root

    def find(self, container_id: str) -> Sequence[ContainerFacts]:
        answers = [kind.ask(container_id) for kind in self._kinds]
        served: dict[str, ContainerFacts] = {}
        for facts in (facts for answer in answers for facts in answer.found):
            served.setdefault(facts.ref.id, facts)
        if served:
            return list(served.values())
        unanswered = "; ".join(line for answer in answers for line in answer.unanswered)
        all_absent = all(answer.absent for answer in answers)
        why = unanswered or ("; ".join(answer.absent for answer in answers) if all_absent else "")
        known = self._kernel.find(container_id) if self._kernel is not None else ()
        if not known and why:
            raise TransientFailure(why)
        return [replace(facts, unserved=why or unserved(facts.labels), unheard=bool(why)) for facts in known]

    def served(self, container_id: str) -> ContainerFacts | None:
        answers = [kind.ask(container_id, hurry=True) for kind in self._kinds]
        found = next((facts for answer in answers for facts in answer.found), None)
        if found is not None:
            return found
        if unanswered := "; ".join(line for answer in answers for line in answer.unanswered):
            raise TransientFailure(unanswered)
        if all(answer.absent for answer in answers):
            raise TransientFailure("; ".join(answer.absent for answer in answers), code="no_runtime")
        return None

    def open(self, ref: ContainerRef) -> ContainerHandle:
        if self._kernel is not None and ref.runtime.startswith(SCHEME):
            return self._kernel.open(ref)
        fitting = [kind for kind in self._kinds if ref.runtime.startswith(kind.scheme)]
        return max(fitting, key=lambda kind: len(kind.scheme)).open(ref)

    def own_ids(self) -> Collection[str]:
        cgroups = self._kernel.own_ids() if self._kernel is not None else ()
        return {*_ids_in_mounts(self._root), *cgroups}

    def runtimes(self) -> Sequence[Runtime]:
        """Each socket once, usable if any way of speaking to it is."""
        found: dict[str, Runtime] = {}
        for runtime in (runtime for kind in self._kinds for runtime in kind.runtimes()):
            known = found.get(runtime.socket)
            found[runtime.socket] = runtime if known is None or not known.usable else known
        return list(found.values())


def _ids_in_mounts(root: Path) -> Collection[str]:
    """The containers that this worker runs in, by its own mounts; under Kubernetes that of the pod's sandbox."""
    try:
        table = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    rows = (row.split(" ") for row in table.splitlines())
    sources = (f"{row[3]}/" for row in rows if len(row) > 4 and row[4] in _OWN_FILES)
    return {found[1] for source in sources if (found := _OWN.search(source))}
