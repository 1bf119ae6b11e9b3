"""Which container an event belongs to, or that it is the host's own: the one place that decides it.

Called by ``domain.falco.alert`` on the raw output fields of an alert, and by ``domain.target`` before a path or a
network becomes a target. Pure. Absence proves nothing: an event is the host's only if it states so and nothing in it
contradicts that. A process needs no such proof: its pid is the host's own number for it, inside a container too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from workers.domain.event import ContainerRef, RuntimeEvent
from workers.domain.event_bounds import LONGEST_NAME, is_container_id, text
from workers.domain.target_kind import NoTarget

CONTAINER_FIELDS: Final = ("container.full_id", "container.id")
"""Where an alert may name a container, best first."""

NO_CONTAINER: Final = "host"
"""What Falco prints in ``container.id`` where there is no container."""

OF_THE_HOST: Final = f"container.id={NO_CONTAINER}"
"""How ``domain.falco.needs`` lists the statement that there is no container."""

WHERE_FIELDS: Final = (*CONTAINER_FIELDS, OF_THE_HOST)
"""What says where a path or a network is; one is enough."""

UNCLEAR: Final = ContainerRef("")
"""An event's container where the event is of one, or may be, and its id is not usable."""

ABSENT: Final = frozenset({"", "<NA>", "N/A", "<nil>"})
"""How Falco marks a text field that it does not know."""

_NOTHING: Final = frozenset({NO_CONTAINER, "0", "false", "null", "none", "[]", "{}", *ABSENT})
"""Values of a container's fields that an event of the host may have."""

_OF_CONTAINERS: Final = ("container.", "k8s.", "io.kubernetes.", "io.cri-containerd.", "com.docker.")
"""Fields and labels of a container or a pod."""

_OF_THE_NODE: Final = ("k8s.node.", "k8s.cluster.")
"""Fields of Kubernetes that are true of a host, too."""

REMEDY: Final = "add Falco's append_output fields (deploy/falco)"


def container_in(fields: Mapping[str, Any]) -> ContainerRef | None:
    """The container of raw output fields: ``UNCLEAR`` where they contradict each other or hold no usable id, None where
    no field is about a container."""
    stated = [given.lower() for name in CONTAINER_FIELDS if (given := _known(fields.get(name)))]
    named = [each for each in stated if each != NO_CONTAINER]
    if not named:
        return UNCLEAR if any(_signs_of_container(fields)) else None
    container_id = named[0]
    if len(named) != len(stated) or not is_container_id(container_id) or not container_id.startswith(named[-1]):
        return UNCLEAR
    repository, tag = _known(fields.get("container.image.repository")), _known(fields.get("container.image.tag"))
    image = f"{repository}:{tag}" if repository and tag else repository
    return ContainerRef(container_id, _known(fields.get("container.name")), image)


def container_of(event: RuntimeEvent) -> str | NoTarget:
    """The id of the event's container; empty where the event proves that it is the host's own."""
    if event.container is not None:
        if is_container_id(event.container.id):
            return event.container.id
        return _unclear("its fields name a container without a usable id, or contradict each other")
    sign = next(_signs_of_container({**event.labels, **event.fields}), "")
    sign = sign or ("a namespace" if event.namespace else "a workload" if event.workload else "")
    if sign:
        return _unclear(f"it has {sign}, and no container's id")
    if event.fields.get("container.id") != NO_CONTAINER:
        field = "container.id"
        return NoTarget("lacks_field", f"event lacks {field}: {REMEDY}", field)
    return ""


def _unclear(why: str) -> NoTarget:
    return NoTarget(
        "container_unclear",
        f"the event may be one of a container ({why}): no path or network of the host is taken for it; {REMEDY}",
        "container.id",
    )


def _signs_of_container(fields: Mapping[Any, Any]) -> Iterator[str]:
    """The fields that an event of the host does not have, whatever they are worth as an id."""
    for name in fields:
        spelled = name.lower().replace("_", ".") if isinstance(name, str) else ""
        about = spelled.startswith(_OF_CONTAINERS) and not spelled.startswith(_OF_THE_NODE)
        if about and _is_stated(fields[name]) and str(fields[name]).strip().lower() not in _NOTHING:
            yield name
    own, inside = fields.get("proc.pid"), fields.get("proc.vpid")
    if _is_stated(own) and _is_stated(inside) and str(own) != str(inside):
        yield "proc.vpid"  # a pid namespace of its own: its paths may be those of another root, too


def _is_stated(value: object) -> bool:
    return value is not None and value is not False and not (isinstance(value, str) and value.strip() in ABSENT)


def _known(value: object) -> str:
    given = text(value, LONGEST_NAME).strip()
    return "" if given in ABSENT else given
