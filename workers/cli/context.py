"""Which gateway the command line uses: ``DOUSE_URL`` and ``DOUSE_TOKEN``, or a context file of ``douse up``.

Called by every command that uses HTTP or Kafka. Reads files and the environment, nothing else.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.domain.errors import ConfigError
from workers.system import yaml_files

DEFAULT_DATA: Final = Path("~/.local/state/douse")


@dataclass(frozen=True, slots=True)
class Context:
    """The address of a gateway, and the token for it."""

    url: str
    token: str
    bootstrap_servers: str = ""
    node_id: str = ""
    data: Path | None = None


def find_context(data: Path | None = None) -> Context:
    """The context of ``--data``, else of the environment, else of the default data directory.

    Raises:
        ConfigError: there is none, or it is incomplete.
    """
    url, token = os.environ.get("DOUSE_URL", ""), os.environ.get("DOUSE_TOKEN", "")
    if data is None and url and token:
        return Context(url.rstrip("/"), token)
    named = os.environ.get("DOUSE_CONTEXT", "")
    path = data / "context.yaml" if data is not None else Path(named or DEFAULT_DATA / "context.yaml")
    path = path.expanduser()
    if not path.exists():
        raise ConfigError(
            f"no gateway is configured: start one with `douse up`, or set DOUSE_URL and DOUSE_TOKEN ({path})"
        )
    content = yaml_files.read_mapping(path)
    missing = [key for key in ("url", "token") if not isinstance(content.get(key), str)]
    if missing:
        raise ConfigError(f"{path}: {missing[0]} is missing; run `douse up` again, which writes this file")
    return Context(
        str(content["url"]).rstrip("/"),
        str(content["token"]),
        str(content.get("bootstrap_servers", "")),
        str(content.get("node_id", "")),
        path.parent,
    )
