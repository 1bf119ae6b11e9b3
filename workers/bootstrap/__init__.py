"""The composition root: the only file that knows every class, one function a worker.

Called by the command line; calls everything. Reads settings, opens adapters, hands them to a room, and decides nothing
else. Imports of adapters stand inside the functions, so that a worker's start never pays for what it does not use.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.bootstrap.dispatcher import dispatcher
from workers.bootstrap.gateway import gateway
from workers.bootstrap.node import node
from workers.bootstrap.projector import projector
from workers.bootstrap.responder import responder
from workers.ports import HistoryStore, Runnable
from workers.settings import (
    DispatcherSettings,
    GatewaySettings,
    NodeSettings,
    ProjectorSettings,
    ResponderSettings,
    WorkerSettings,
    parse,
)


@dataclass(frozen=True, slots=True)
class Role:
    """A worker that can be started by name."""

    name: str
    summary: str
    settings: type[WorkerSettings]
    build: Callable[[Any], Runnable]

    def load(self, config: Path) -> Runnable:
        """The worker that a settings file describes.

        Raises:
            ConfigError: the file cannot be used, or names something that is not there.
        """
        from workers.adapters.yaml_files import read_mapping

        return self.build(parse(self.settings, read_mapping(config)))


def history_reader(url: str) -> HistoryStore:
    """A history store to ask questions of; made if the projector has not been here yet.

    Raises:
        ConfigError: the URL cannot be used, or a newer Douse wrote the store.
        TransientFailure: the database is away or busy.
    """
    from workers.adapters.avro import AvroCodec
    from workers.adapters.history_store.store import open_history

    return open_history(url, AvroCodec())


_ROLES: tuple[Role, ...] = (
    Role("node", "Runs signed commands on this machine.", NodeSettings, node),
    Role("dispatcher", "Allows, signs and dispatches what was requested.", DispatcherSettings, dispatcher),
    Role("projector", "Folds results, audit, heartbeats and events into history.", ProjectorSettings, projector),
    Role("gateway", "Serves HTTP: takes events and requests in, answers from history.", GatewaySettings, gateway),
    Role("responder", "Matches events against rules and asks for actions.", ResponderSettings, responder),
)

ROLES: Mapping[str, Role] = {role.name: role for role in _ROLES}
"""Every worker by its name on the command line."""
