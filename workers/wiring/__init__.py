"""The composition root: the only package that knows every class, one module a worker.

Called by the command line; calls everything. Reads settings, opens adapters, connects them, and decides nothing else. A
worker's module is imported only when that worker starts, so that no other one, nor ``douse --help``, pays for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from workers.settings import WorkerSettings
    from workers.system.ports import Runnable

Parts: TypeAlias = "tuple[type[WorkerSettings], Callable[[Any], Runnable]]"
"""A worker's settings, and what builds it out of them."""


@dataclass(frozen=True, slots=True)
class Role:
    """A worker that can be started by name."""

    name: str
    summary: str
    parts: Callable[[], Parts]

    def load(self, config: Path) -> "Runnable":
        """The worker that a settings file describes.

        Raises:
            ConfigError: the file cannot be used, or names something that is not there.
        """
        from workers.settings import parse
        from workers.system.yaml_files import read_mapping

        settings, build = self.parts()
        return build(parse(settings, read_mapping(config), file=config).read_from(config))


def _node() -> Parts:
    from workers.wiring.actions import node_settings
    from workers.wiring.node import node

    return node_settings(), node


def _dispatcher() -> Parts:
    from workers.settings import DispatcherSettings
    from workers.wiring.dispatcher import dispatcher

    return DispatcherSettings, dispatcher


def _projector() -> Parts:
    from workers.settings import ProjectorSettings
    from workers.wiring.projector import projector

    return ProjectorSettings, projector


def _gateway() -> Parts:
    from workers.settings import GatewaySettings
    from workers.wiring.gateway import gateway

    return GatewaySettings, gateway


def _responder() -> Parts:
    from workers.settings import ResponderSettings
    from workers.wiring.responder import responder

    return ResponderSettings, responder


_ROLES: tuple[Role, ...] = (
    Role("node", "Runs signed commands on this machine.", _node),
    Role("dispatcher", "Allows, signs and dispatches what was requested.", _dispatcher),
    Role("projector", "Folds results, audit, heartbeats and events into history.", _projector),
    Role("gateway", "Serves HTTP: takes events and requests in, answers from history.", _gateway),
    Role("responder", "Matches events against rules and asks for actions.", _responder),
)

ROLES: Mapping[str, Role] = {role.name: role for role in _ROLES}
"""Every worker by its name on the command line."""
