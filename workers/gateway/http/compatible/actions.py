"""``GET /actions``: what this caller can have executed, in this context, now."""

from collections.abc import Mapping, Sequence
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request

from workers.actions.base import AnyAction
from workers.domain.event_bounds import is_container_id
from workers.domain.history.queries import StoredNode
from workers.domain.target_kind import NameField, NameFormat
from workers.gateway.http.compatible import contexts, show, vocabulary
from workers.gateway.http.compatible.answers import ANSWERS
from workers.gateway.http.compatible.bodies import ResponseActions
from workers.gateway.http.services import COMPATIBLE, Services, caller
from workers.gateway.permissions import Access, may, permit_any

SILENT_NS: Final = 600_000_000_000
"""A node that was not heard for twice the longest interval between heartbeats executes nothing now."""

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


def add(app: FastAPI, services: Services) -> None:
    """Add the route."""

    @app.get(
        f"{COMPATIBLE}/actions",
        tags=["compatible"],
        summary="List the actions that can be executed in a context",
        response_model_exclude_none=True,
        openapi_extra=_CONTEXT,
        responses=ANSWERS,
    )
    def actions(request: Request) -> ResponseActions:
        """Only those that this caller may have executed, and that nothing in the context stands against: a node that is
        silent, unknown or has the action switched off, or a label that names no container or process. Needs
        containment-response-actions.exec or data-gathering-response-actions.exec."""
        person = caller(request)
        permit_any(person, Access.EXEC)
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
    """Whether the one node that the context names has the action switched on; two of one name are none."""
    if len(nodes) != 1:
        return False
    (node,) = nodes
    return node.verified and now_ns - node.folded_at_ns < SILENT_NS and action.name in node.state.actions


def _fits(action: AnyAction, labels: Mapping[str, str]) -> bool:
    """Whether the labels, where they are there, name what the action acts on."""
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
            return True  # no label of a context
