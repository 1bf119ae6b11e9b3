"""``GET /actions``: the actions that this caller can request now, in this context. Next: ``show.action``."""

from collections.abc import Mapping, Sequence
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request

from workers.actions.base import AnyAction
from workers.domain.event_bounds import is_container_id, is_path, is_pid
from workers.domain.history.queries import StoredNode
from workers.domain.target import KINDS
from workers.domain.target_kind import NameField, NameFormat
from workers.gateway.http.compatible import contexts, show, vocabulary
from workers.gateway.http.compatible.bodies import ERRORS, ResponseActions
from workers.gateway.http.security import CallerWithExec
from workers.gateway.http.services import Services
from workers.gateway.permissions import Access, may

_CONTEXT: Final = {
    "parameters": [
        {
            "name": "context",
            "in": "query",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "description": "Labels: host.id, container.id, process.id, path.absolute. As context[host.id]=…, as JSON "
            "text, or plain (host.id=…).",
            "schema": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 1024}},
        }
    ]
}


router = APIRouter()


@router.get(
    "/actions",
    summary="List the actions that can be executed in a context",
    response_model_exclude_none=True,
    openapi_extra=_CONTEXT,
    responses=ERRORS,
)
def list_actions(request: Request, services: Services, person: CallerWithExec) -> ResponseActions:
    """Only the actions that this caller may request and that the context permits: left out if the node is silent,
    unknown or has the action switched off, if a label cannot name a container, process or file, or if the labels name
    something else than the action acts on. Needs containment-response-actions.exec or
    data-gathering-response-actions.exec."""
    labels = contexts.labels_of(request.query_params.multi_items())
    host = labels.get(vocabulary.HOST) or labels.get(vocabulary.HOST_NAME, "")
    nodes = [each for each in services.history.nodes() if host in _names(each)] if host else ()
    return ResponseActions(
        data=[
            show.action(action)
            for action in services.intake.catalogue.values()
            if not action.undo_only
            and may(person, action.permission, Access.EXEC)
            and (not host or _runs(action, nodes, services.clock.now_ns()))
            and _fits(action, labels)
        ]
    )


def _names(node: StoredNode) -> tuple[str, ...]:
    return (node.state.node_id, *node.state.host_names)


def _runs(action: AnyAction, nodes: Sequence[StoredNode], now_ns: int) -> bool:
    """Whether the one node that the context names has the action switched on; two of one name do not count."""
    if len(nodes) != 1:
        return False
    return nodes[0].offers(action.name, now_ns=now_ns)


def _fits(action: AnyAction, labels: Mapping[str, str]) -> bool:
    """Whether the labels name what the action acts on, or could: once one of them names a process, a container or a
    file, an action needs its own to be there."""
    needed = {field.published_name for field in action.target.name_fields if field.required}
    if _named(labels) and not needed <= labels.keys():
        return False
    return all(
        _can_be(field, labels[field.published_name])
        for field in action.target.name_fields
        if field.published_name in labels
    )


def _named(labels: Mapping[str, str]) -> bool:
    """Whether they name anything on the host."""
    known = {field.published_name for kind in KINDS for field in kind.name_fields if field.required}
    return any(labels.get(name, vocabulary.NO_CONTAINER) != vocabulary.NO_CONTAINER for name in known)


def _can_be(field: NameField, label: str) -> bool:
    match field.format:
        case NameFormat.PID:
            return label.isascii() and label.isdigit() and is_pid(int(label))
        case NameFormat.CONTAINER_ID:
            return (label == vocabulary.NO_CONTAINER and not field.required) or is_container_id(label.lower())
        case NameFormat.PATH:
            return is_path(label)
        case NameFormat.START_TIME:
            return True  # not a label of a context
