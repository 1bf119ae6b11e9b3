"""The data directory of one machine: its lock, its paths, and the settings files of the workers.

Called by ``douse up`` and ``douse demo``. Settings that a person edited are kept; only what changes with each start
(the broker's address, the log id) is replaced.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.domain.errors import ConfigError, InUse
from workers.domain.log.topics import FALCO_EVENTS
from workers.system import yaml_files

ROLES = ("projector", "dispatcher", "node", "responder", "gateway")
"""In start order; they stop in reverse order."""

COMMAND_PARTITIONS = 64


@dataclass(frozen=True, slots=True)
class Start:
    """What changes with each start."""

    bootstrap_servers: str
    log_id: str
    node_id: str
    port: int
    token: str
    unsigned_events: bool = False
    """Whether events on Falco's own topic are believed: the embedded broker has no access rules."""

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class DataDir:
    """The paths of a data directory."""

    root: Path

    @property
    def context(self) -> Path:
        """URL, token, brokers and node id, for the CLI."""
        return self.root / "context.yaml"

    @property
    def keys(self) -> Path:
        """Private keys and the keyset."""
        return self.root / "keys"

    def config(self, role: str) -> Path:
        """A worker's settings."""
        return self.root / "config" / f"{role}.yaml"

    @property
    def rules(self) -> Path:
        """The responder's rules."""
        return self.root / "config" / "rules.yaml"

    @property
    def objects(self) -> Path:
        """Acquired files."""
        return self.root / "objects"

    def log(self, role: str) -> Path:
        """A worker's output."""
        return self.root / "logs" / f"{role}.log"

    def pid(self, role: str) -> Path:
        """The process id of a running worker."""
        return self.root / "run" / f"{role}.pid"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the directory and lock it for this process.

        Raises:
            InUse: another process has locked it.
            ConfigError: it cannot be created or written.
        """
        try:
            for part in ("", "config", "keys", "node", "dispatcher", "objects", "logs", "run"):
                (self.root / part).mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{error.filename or self.root}: cannot be used as data directory: {error.strerror}"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise InUse(f"{self.root} is in use by another douse; stop it, or choose another --data") from None
        try:
            yield
        finally:
            os.close(lock)

    def token(self) -> str:
        """The admin token of the previous start, or a new one."""
        if self.context.exists():
            known = yaml_files.read_mapping(self.context).get("token")
            if isinstance(known, str) and known:
                return known
        return secrets.token_urlsafe(32)

    def write(self, start: Start) -> None:
        """Write every worker's settings, and the context last."""
        if not self.rules.exists():
            yaml_files.write(self.rules, {"rules": []})
        for role in ROLES:
            path = self.config(role)
            edited = dict(yaml_files.read_mapping(path)) if path.exists() else self._defaults(role)
            yaml_files.write(path, edited | self._changed(role, start, edited))
        yaml_files.write(
            self.context,
            {
                "url": start.url,
                "token": start.token,
                "bootstrap_servers": start.bootstrap_servers,
                "node_id": start.node_id,
            },
        )

    def _defaults(self, role: str) -> dict[str, Any]:
        history = f"sqlite:///{self.root / 'history.sqlite'}"
        storage = {"directory": str(self.objects)}
        keys = {"private_key": str(self.keys / f"{role}.key"), "keyset": str(self.keys / "keyset.json")}
        own: Mapping[str, dict[str, Any]] = {
            "node": {
                "node": {
                    "data_dir": str(self.root / "node"),
                    "heartbeat_s": 1.0,
                    "command_partitions": COMMAND_PARTITIONS,
                },
                "features": {
                    "respond": {
                        "response_actions": {
                            "file_quarantine": {"quarantine_path": str(self.root / "node" / "quarantine")}
                        }
                    }
                },
                "storage": storage,
            },
            "dispatcher": {
                "ledger": str(self.root / "dispatcher" / "ledger.sqlite"),
                "zones": {"default": COMMAND_PARTITIONS},
            },
            "responder": {"rules": [str(self.rules)]},
            "projector": {"history": history},
            # A person and the demo poll executions often; the limit is for shared gateways.
            "gateway": {"history": history, "requests_per_minute": 100_000, "storage": storage},
        }
        return {"keys": keys} | own[role]

    def _changed(self, role: str, start: Start, edited: Mapping[str, Any]) -> dict[str, Any]:
        kafka = {
            "bootstrap_servers": start.bootstrap_servers,
            "security": {"protocol": "PLAINTEXT"},
            "insecure_dev": True,
            "fetch_wait_ms": 2,
            "log_id": start.log_id,
        }
        match role:
            case "node":
                return {"kafka": kafka, "node": dict(edited["node"]) | {"id": start.node_id}}
            case "gateway":
                digest = hashlib.sha256(start.token.encode()).hexdigest()
                return {"kafka": kafka, "port": start.port, "admin_token_sha256": digest}
            case "responder" | "projector":
                # Renewed with each start, so that an exception for one start does not last.
                return {"kafka": kafka, "unsigned_topics": [FALCO_EVENTS] if start.unsigned_events else []}
            case _:
                return {"kafka": kafka}
