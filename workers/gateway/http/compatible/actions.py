"""``GET /actions``: the actions that this caller can request now, in this context. Next: ``show.action``."""

from collections.abc import Mapping, Sequence
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request

from workers.actions.base import AnyAction
from workers.domain.event_bounds import is_container_id
from workers.domain.history.queries import StoredNode
from workers.domain.target_kind import NameField, NameFormat
from workers.gateway.http.compatible import contexts, show, vocabulary
from workers.gateway.http.compatible.bodies import ERRORS, ResponseActions
from workers.gateway.http.security import CallerWithExec
from workers.gateway.http.services import Services
from workers.gateway.permissions import Access, may

SILENT_NS: Final = 600_000_000_000
"""Twice the longest interval between heartbeats: a node that was silent for longer is not available now."""

_CONTEXT: Final = {
    "parameters": [
        {
            "name": "context",
            "in": "query",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "description": "Labels: host.id, container.id, process.id. As context[host.id]=…, as JSON text, or plain "
            "(host.id=…).",
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
    unknown or has the action switched off, or if a label cannot name a container or process. Needs
    containment-response-actions.exec or data-gathering-response-actions.exec."""
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
    (node,) = nodes
    return node.verified and now_ns - node.folded_at_ns < SILENT_NS and action.name in node.state.actions


def _fits(action: AnyAction, labels: Mapping[str, str]) -> bool:
    """Whether the labels that are given can name what the action acts on."""
    return all(
        _can_be(field, labels[field.published_name])
        for field in action.target.name_fields
        if field.published_name in labels
    )


def _can_be(field: NameField, label: str) -> bool:
    match field.format:
        case NameFormat.PID:
            return label.isascii() and label.isdigit()
        case NameFormat.CONTAINER_ID:
            return (label == vocabulary.NO_CONTAINER and not field.required) or is_container_id(label.lower())
        case NameFormat.START_TIME | NameFormat.PATH:
            return True  # not a label of a context
