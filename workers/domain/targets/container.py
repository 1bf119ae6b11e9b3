"""Facts about one container, and what follows from them: which run is meant, what restarts it, what protects it.

Read by the doorways behind the port ``Containers``; judged here for the actions on containers. Pure. A *run* is a
container between one start and its end: (id, when it started, pid of its init). An action on one run is never done to
another, and a name is never an id.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from workers.domain.errors import CommandRejected
from workers.domain.event_bounds import is_container_id

WHOLE_ID: Final = 64
"""Hex digits of a full id."""

NO_RESTART: Final = "no"
_MOST_AHEAD_NS: Final = 30_000_000_000
"""How far the observer's clock may be ahead of this one: the skew that all of Douse tolerates."""
_PROTECTED: Final = "douse.protected"


class ContainerState(StrEnum):
    """Its state, with the same names for all runtimes."""

    CREATED = "created"
    """It never ran."""
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    """It ended, and its runtime is about to start it again."""
    ENDED = "ended"


ALIVE: Final = frozenset({ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING})
"""It runs, or will by itself."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """What its runtime does when it ends by itself, or when the runtime starts."""

    name: str = NO_RESTART
    """As the runtime calls it: ``no``, ``always``, ``unless-stopped``, ``on-failure``."""
    maximum: int = 0
    """Of restarts; 0 is no limit."""

    @property
    def restarts(self) -> bool:
        """Whether it may be started by its runtime at all."""
        return self.name not in ("", NO_RESTART)


@dataclass(frozen=True, slots=True)
class Runtime:
    """One container runtime's socket, and whether this node uses it."""

    socket: str
    usable: bool
    """Whether containers behind it are acted on."""
    why: str = ""
    """Why not."""


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """A container of one runtime: the whole id, and the socket of the runtime that has it."""

    runtime: str
    id: str


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """One container as its runtime reports it. Times are nanoseconds since the epoch."""

    ref: ContainerRef
    state: ContainerState
    started_at_ns: int
    """When its newest run started; 0 for one that never ran, and where it is not known."""
    pid: int = 0
    """Its init, on this host; 0 while it does not run."""
    name: str = ""
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Those that its creator gave it; labels of its image are not trusted, and are not among them."""
    policy: RestartPolicy = RestartPolicy()
    owner: int = 0
    """The user whose runtime it is."""
    unsettled: bool = False
    """A call to its runtime went unanswered a moment ago, and may still be carried out."""
    starts_again: bool = True
    """Whether its runtime can start it again once it has ended."""
    unserved: str = ""
    """Why no runtime was asked, and only the kernel knows it; empty where one was. It can be killed and paused then."""
    unheard: bool = False
    """A runtime that may have it did not answer: it may later."""

    @property
    def alive(self) -> bool:
        """Whether it runs, or will by itself."""
        return self.state in ALIVE


_ORCHESTRATORS: Final[Mapping[str, str]] = {
    "io.kubernetes.pod.uid": "kubernetes",
    "io.kubernetes.pod.name": "kubernetes",
    "com.docker.swarm.task.id": "swarm",
    "com.docker.swarm.service.id": "swarm",
    "com.hashicorp.nomad.alloc_id": "nomad",
    "com.amazonaws.ecs.task-arn": "ecs",
    "PODMAN_SYSTEMD_UNIT": "systemd",
    "com.docker.compose.project": "compose",
    "io.podman.compose.project": "compose",
}
"""Labels by which orchestrators mark their containers; the first that matches decides."""

NAMESPACE: Final = "io.containerd.namespace"
"""Not a label of containerd's: in its place for a container that no runtime serves, by its bundle's directory."""
_NAMESPACES: Final[Mapping[str, str]] = {"moby": "docker", "default": "nerdctl", "nomad": "nomad"}
"""Which program keeps its containers in which of containerd's namespaces."""

_WILL: Final[Mapping[str, str]] = {
    "kubernetes": "the kubelet starts a replacement within seconds; act on the workload too",
    "swarm": "Swarm starts a replacement task; scale the service down too",
    "nomad": "Nomad starts the task again; stop the job too",
    "ecs": "the ECS agent replaces the task; stop the service too",
    "systemd": "systemd may start its unit again, depending on the unit; stop the unit too",
    "compose": "Compose brings it back at the next up",
    "docker": "dockerd, or Swarm, may start it again; act through Docker too",
    "nerdctl": "containerd's restart monitor may start it again; remove it with nerdctl too",
    "containerd": "the client of containerd that made it may start it again",
}

_SANDBOX: Final[Mapping[str, str]] = {
    "io.cri-containerd.kind": "sandbox",
    "io.kubernetes.container.name": "POD",
    "io.kubernetes.docker.type": "podsandbox",
}
"""How runtimes mark the container that holds a pod's namespaces."""

DECISIVE_LABELS: Final = frozenset({_PROTECTED, NAMESPACE, *_ORCHESTRATORS, *_SANDBOX})
"""Labels that change what is done or reported: a reader must leave out those that come from the image."""


def choose(found: Sequence[ContainerFacts], wanted: str, *, observed_at_ns: int, now_ns: int) -> ContainerFacts:
    """The one container that an id means, its newest run older than the observation; root's runtimes come first.

    Raises:
        CommandRejected: no id, unknown, ambiguous, or started after it was observed.
    """
    if not is_container_id(wanted):
        raise CommandRejected(
            "a container is named by 12 to 64 lower-case hex digits of its id, never by its name", code="invalid_target"
        )
    matching = [each for each in found if each.ref.id.startswith(wanted)]
    matching = [each for each in matching if each.owner == 0] or matching
    if not matching:
        raise CommandRejected(f"no runtime on this node has a container {wanted}", code="container_unknown")
    if len(matching) > 1:
        ids = ", ".join(sorted(each.ref.id[:16] for each in matching)[:4])
        raise CommandRejected(
            f"{len(matching)} containers of this node have an id that begins {wanted} ({ids} …); send the whole id",
            code="container_ambiguous",
        )
    (chosen,) = matching
    if observed_at_ns <= 0:
        raise CommandRejected(
            f"container {wanted} is named without the time of its observation, so its run cannot be determined",
            code="identity_missing",
        )
    if observed_at_ns - now_ns > _MOST_AHEAD_NS:
        raise CommandRejected(
            f"container {wanted} was observed {(observed_at_ns - now_ns) / 1e9:.1f} s in this machine's future; "
            "correct the clocks",
            code="identity_unclear",
        )
    if chosen.started_at_ns > observed_at_ns:
        late_s = (chosen.started_at_ns - observed_at_ns) / 1e9
        raise CommandRejected(
            f"container {wanted} was started again {late_s:.3f} s after it was observed; the observed run has ended. "
            "Request the action on the present run if that is meant",
            code="started_after",
        )
    return chosen


def without(facts: ContainerFacts, image_labels: Mapping[str, str]) -> ContainerFacts:
    """The same without the labels of its image: the maker of an image must not decide what is protected here."""
    own = {label: value for label, value in facts.labels.items() if image_labels.get(label) != value}
    return replace(facts, labels=own)


def orchestrator(labels: Mapping[str, str]) -> str:
    """What else starts it (``kubernetes``, ``swarm`` …); empty for none."""
    named = next((name for label, name in _ORCHESTRATORS.items() if label in labels), "")
    namespace = labels.get(NAMESPACE, "")
    return named or (_NAMESPACES.get(namespace, "containerd") if namespace else "")


def unserved(labels: Mapping[str, str]) -> str:
    """Why no runtime was asked for a container that the kernel shows: which it belongs to, as far as that is known."""
    namespace = labels.get(NAMESPACE, "")
    if not namespace:
        return "no trusted runtime has it"
    keeper = _NAMESPACES.get(namespace, "")
    of = f" (that of {keeper})" if keeper else ""
    return f"it is in containerd's namespace {namespace!r}{of}, which no trusted runtime serves"


def will_return(name: str) -> str:
    """What an orchestrator does about a container that has ended, as the end of a sentence; empty for none."""
    return _WILL.get(name, "")


def protection(facts: ContainerFacts, *, own_ids: Collection[str], own_line: Collection[int]) -> str | None:
    """Why this container is protected, as a sentence that begins with "it"; None where it is not.

    ``own_ids`` are containers this worker runs in, ``own_line`` its process and the ancestors of it. The labels of a
    user's runtime protect nothing: the user could be the intruder.
    """
    if facts.ref.id in own_ids or (facts.pid and facts.pid in own_line):
        return "it is the container that this worker runs in"
    if facts.owner != 0:
        return None
    if facts.labels.get(_PROTECTED, "false").lower() not in ("false", "0", "no"):
        return f"it has the label {_PROTECTED}"
    if any(facts.labels.get(label) == value for label, value in _SANDBOX.items()):
        return "it is the sandbox that holds a pod together"
    return None


def same_run(facts: ContainerFacts, *, started_at_ns: int, pid: int) -> bool:
    """Whether a container's newest run is the one that started then with this init; 0 for a pid that is not known."""
    if facts.started_at_ns != started_at_ns:
        return False
    return not (facts.pid and pid) or facts.pid == pid


def label_of(container_id: str, name: str) -> str:
    """A container as messages name it."""
    return f"container {container_id[:12]}{f' ({name})' if name else ''}"
