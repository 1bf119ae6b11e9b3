"""The settings of every worker: read once at start, frozen, checked as a whole.

``parse`` is called by ``wiring`` with what a YAML file held. All faults are reported at once, each with its path and
what to do; an unknown key is a fault, because a misspelt safety switch that is silently ignored is worse than none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    create_model,
    model_validator,
)

from workers.domain.errors import ConfigError, Problem
from workers.domain.history.retention import Retention


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class KafkaSecurity(_Frozen):
    """How to talk to the brokers. PLAINTEXT is for loopback, and only with ``insecure_dev``."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = "SASL_SSL"
    """How connections are encrypted and authenticated: SSL with a certificate of its own, SASL_SSL with a user name."""
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"] = "SCRAM-SHA-512"
    """For SASL_SSL."""
    username: str = ""
    """For SASL_SSL."""
    password_file: Path | None = None
    """For SASL_SSL: a file that holds the password and nothing else."""
    ca_file: Path | None = None
    """The certificate authority of the brokers; empty takes the well-known ones."""
    certificate_file: Path | None = None
    """For SSL: this worker's certificate."""
    key_file: Path | None = None
    """For SSL: the certificate's private key."""


class KafkaSettings(_Frozen):
    """The log."""

    bootstrap_servers: str
    """``HOST:PORT``, separated by commas."""
    security: KafkaSecurity = KafkaSecurity()
    insecure_dev: bool = False
    """Allows PLAINTEXT, to brokers on loopback only."""
    fetch_wait_ms: int = Field(default=10_000, ge=1, le=60_000)
    """A real broker answers a parked fetch at once, the embedded one only when the wait is over: 1 to 5 there."""
    log_id: str = ""
    """Names the log where the broker cannot (the embedded one); empty takes cluster id and topic id."""

    @model_validator(mode="after")
    def _plaintext_is_for_loopback(self) -> "KafkaSettings":
        if self.security.protocol != "PLAINTEXT":
            return self
        hosts = {server.strip().rsplit(":", 1)[0].strip("[]") for server in self.bootstrap_servers.split(",")}
        if not self.insecure_dev or not hosts <= {"127.0.0.1", "localhost", "::1"}:
            raise ValueError(
                "PLAINTEXT is refused: use SSL or SASL_SSL, or set insecure_dev: true with brokers on loopback only"
            )
        return self


class KeySettings(_Frozen):
    """This worker's own key, and the keyset it trusts."""

    private_key: Path
    """Mode 0600; made by ``douse keys add``."""
    keyset: Path
    """The public keys of the fleet, signed by an operator."""
    newest: Path | None = None
    """Where a newer keyset that came over the bus is kept: ``keyset.newest.json`` beside ``keyset``, unless this names
    another file. Its directory must be writable."""


class S3Settings(_Frozen):
    """A bucket, over the S3 API. A node's credential needs no more than to put under its own prefix."""

    endpoint: str = Field(pattern=r"^https?://[A-Za-z0-9._\-\[\]:]+$")
    """``https://HOST[:PORT]``; http is for loopback, and only with ``insecure_dev``."""
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    """The bucket; it must exist."""
    region: str = Field(default="us-east-1", min_length=1)
    """The region that requests are signed for."""
    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$")
    """Put before every key, with a slash between; empty where the bucket is Douse's own."""
    access_key: str = Field(min_length=1)
    """The credential's id."""
    secret_key_file: Path
    """A file that holds the secret and nothing else."""
    ca_file: Path | None = None
    """Whom to trust as the store's certificate authority; empty takes the well-known ones."""
    encryption: Literal["", "AES256", "aws:kms"] = ""
    """Server-side encryption asked for; empty leaves it to the bucket."""
    part_size_mb: int = Field(default=16, ge=5, le=5120)
    """Larger objects travel in parts of this size; S3 allows no smaller ones."""
    insecure_dev: bool = False
    """Allows http, to an endpoint on loopback only."""

    @model_validator(mode="after")
    def _plain_http_is_for_loopback(self) -> "S3Settings":
        host = self.endpoint.partition("://")[2].rsplit(":", 1)[0].strip("[]")
        loopback = host in {"127.0.0.1", "localhost", "::1"}
        if self.endpoint.startswith("http://") and not (self.insecure_dev and loopback):
            raise ValueError("http is refused: use https, or set insecure_dev: true with an endpoint on loopback")
        return self


class StorageSettings(_Frozen):
    """Where gathered files go: a bucket, or a directory of this machine; neither, and nothing is gathered."""

    directory: Path | None = None
    """A directory of this machine, instead of a bucket."""
    s3: S3Settings | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "StorageSettings":
        if self.directory is not None and self.s3 is not None:
            raise ValueError("name one store: directory or s3, not both")
        return self


class TelemetrySettings(_Frozen):
    """Where traces and metrics go: nowhere, unless an endpoint is set."""

    otlp_endpoint: str = ""
    """``http://HOST:PORT`` of an OpenTelemetry collector; empty sends nothing."""
    log_format: Literal["console", "json"] = "json"
    """One line for each event, for people or for programs."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe that is logged."""


class WorkerSettings(_Frozen):
    """What every worker has."""

    kafka: KafkaSettings
    keys: KeySettings
    telemetry: TelemetrySettings = TelemetrySettings()
    _file: Path | None = PrivateAttr(default=None)

    def read_from(self, file: Path) -> Self:
        """The same, knowing the file that it was read from."""
        made = self.model_copy()
        made._file = file  # noqa: SLF001 - its own
        return made

    @property
    def file(self) -> Path | None:
        """The file it was read from; None where it was made in memory."""
        return self._file

    def paths(self) -> Mapping[Path, str]:
        """Every file and directory that the settings name, each with its key."""
        return dict(_paths(self, ""))


class OperatorKeys(_Frozen):
    """Whom an operator's commands trust, and the key they sign with, which may be kept elsewhere until it is needed."""

    keyset: Path
    """The public keys of the fleet, signed by an operator."""
    private_key: Path | None = None
    """The operator's own, only where a command signs."""


class ClusterSettings(_Frozen):
    """What an operator's commands need to reach the brokers, and to read and change how the fleet is cut."""

    kafka: KafkaSettings
    keys: OperatorKeys | None = None


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class ActionSettings(_Frozen):
    """One action's section of a node's settings: its switch. An action with more to set declares a subclass beside
    itself, with fields made by ``setting``."""

    trigger: Annotated[Literal["ALL", "NONE"], BeforeValidator(_upper)] = "ALL"
    """``NONE`` switches the action off on this node; nothing on the bus can switch it on again."""
    timeout: int | None = Field(default=None, ge=1, le=65_535)
    """Seconds for one run; of a gathering action, how long it may go without a byte. Unset takes the node's."""


def setting(default: Any, *, minimum: int | None = None, maximum: int | None = None, longest: int | None = None) -> Any:
    """A field of an action's section: a number's bounds, or how many entries a list may have."""
    return Field(default=default, ge=minimum, le=maximum, max_length=longest)


def checked(check: Callable[[str], object]) -> AfterValidator:
    """For ``Annotated[str, checked(check)]``: a text that ``check`` accepts; else it raises ``ValueError``."""

    def checked_text(text: str) -> str:
        check(text)
        return text

    return AfterValidator(checked_text)


class Sockets(_Frozen):
    """Where to look for a runtime, as globs."""

    socket_path: tuple[str, ...]
    """Paths of its sockets, ``*`` and ``**`` allowed."""


Section = TypeVar("Section", bound=ActionSettings)


class ResponseActions(_Frozen):
    """``features.respond.response_actions``: the keys operators already know. Beside these it has one key for each
    action of the catalogue (``features_with``)."""

    enabled: bool = True
    """``false`` switches every action off on this node."""
    timeout: int = Field(default=60, ge=1, le=65_535)
    """Seconds for one run of any action, at most what its command asks; an action's own ``timeout`` decides alone."""
    queue_length: int = Field(default=1000, ge=1, le=1_000_000)
    """Commands that may wait in one lane; a further one ends REJECTED with ``queue_full``."""
    docker: Sockets = Sockets(
        socket_path=("/var/run/docker.sock", "/run/podman/podman.sock", "/run/*/*/podman/podman.sock")
    )
    cri: Sockets = Sockets(
        socket_path=(
            "/run/**/containerd.sock",
            "/var/run/**/containerd.sock",
            "/run/**/dockershim.sock",
            "/var/run/**/dockershim.sock",
            "/run/**/crio.sock",
            "/var/run/**/crio.sock",
        )
    )

    def of(self, action: str) -> ActionSettings:
        """The section of an action by name; an action without one follows ``enabled``."""
        found = getattr(self, action, None)
        return found if isinstance(found, ActionSettings) else ActionSettings()

    def section(self, action: str, kind: type[Section]) -> Section:
        """The section of an action that declares more than a switch."""
        found = self.of(action)
        if not isinstance(found, kind):
            raise TypeError(f"these settings were read without the section of {action}")
        return found

    def switched_off_by(self, action: str) -> str:
        """The setting that keeps this node from running the action; empty where it runs it."""
        if not self.enabled:
            return "response_actions.enabled: false"
        return f"{action}.trigger: NONE" if self.of(action).trigger == "NONE" else ""

    def allows(self, action: str) -> bool:
        """Whether this node runs the action at all."""
        return not self.switched_off_by(action)


class Respond(_Frozen):
    """``features.respond``."""

    response_actions: ResponseActions = ResponseActions()


class Features(_Frozen):
    """``features``."""

    respond: Respond = Respond()


class NodeIdentity(_Frozen):
    """Which node this is, and where it keeps what must survive."""

    id: str = Field(default="", pattern=r"^([0-9a-f]{32})?$")
    """Empty takes an HMAC of the machine id at first start; immutable afterwards."""
    host_names: tuple[str, ...] = ()
    """Names events call this host; empty takes the kernel's host name."""
    zone: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """The zone, which has a command topic of its own."""
    cluster: str = ""
    """The cluster's name, as detectors and history call it."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Names and values, shown with the node."""
    data_dir: Path = Path("/var/lib/douse")
    """Where the journal, the spool and the lock are kept. It must survive restarts."""
    heartbeat_s: float = Field(default=10.0, gt=0, le=300)
    """Seconds between two heartbeats."""
    command_partitions: int = Field(default=64, ge=1, le=10_000)
    """Of the zone's first command topic. Growth is announced on ``fleet.topology``: leave this as it was."""
    drain_s: float = Field(default=10.0, ge=0, le=600)
    """Seconds that running actions get to end when the worker is stopped."""


class NodeSettings(WorkerSettings):
    """A node worker. Read with ``node_settings_with``, which adds the actions' keys."""

    node: NodeIdentity = NodeIdentity()
    features: Features = Features()
    storage: StorageSettings = StorageSettings()

    @property
    def actions(self) -> ResponseActions:
        """The response actions' part."""
        return self.features.respond.response_actions


def features_with(sections: Mapping[str, type[ActionSettings]]) -> type[Features]:
    """``features`` of a node that has these actions: name to section."""
    keys: dict[str, Any] = {name: (section, section()) for name, section in sections.items()}
    actions = create_model("ResponseActions", __base__=ResponseActions, **keys)
    respond = create_model("Respond", __base__=Respond, response_actions=(actions, actions()))
    return create_model("Features", __base__=Features, respond=(respond, respond()))


def node_settings_with(sections: Mapping[str, type[ActionSettings]]) -> type[NodeSettings]:
    """The settings of a node that has these actions: name to section."""
    features = features_with(sections)
    return create_model("NodeSettings", __base__=NodeSettings, features=(features, features()))


class DispatcherSettings(WorkerSettings):
    """The dispatcher."""

    ledger: Path = Path("/var/lib/douse/dispatcher/ledger.sqlite")
    """The SQLite file with every open execution. It must survive restarts."""
    zones: Mapping[str, int] = Field(default_factory=lambda: {"default": 64})
    """Zone name to the number of partitions of its first command topic; growth is announced on ``fleet.topology``."""
    silent_after_s: int = Field(default=60, ge=1, le=86_400)
    """How long after expiry and timeout a silent node raises an alarm."""


UnsignedTopics: TypeAlias = tuple[Literal["falco.events"], ...]
"""Detectors' topics whose records carry no signature: whoever may write to one is believed, and can have rules act.
Name one only where the brokers' access rules let nothing but detectors write to it. ``runtime.events`` is signed, and
always read."""


class ResponderSettings(WorkerSettings):
    """The responder."""

    unsigned_topics: UnsignedTopics = ()
    """Further topics whose events may trigger rules. No key signs them: whoever may write there is believed."""
    rules: tuple[Path, ...] = ()
    """Files with response rules, merged; see `deploy/rules/README.md`."""
    group: str = "douse-responder"
    """The consumer group; responders of one group share the events."""
    member: str = Field(default="", max_length=200, pattern=r"^[A-Za-z0-9._-]*$")
    """A name that no other responder of the group has, kept over restarts. With one, a responder that was killed reads
    on as soon as it is back; without, the group first waits 6 s for the dead one."""
    oldest_event_s: int = Field(default=300, ge=1, le=86_400)
    """Events older than this never trigger, and without a committed offset reading starts here."""


class RetentionSettings(_Frozen):
    """For how many days history keeps what; null is for ever. What is still open is kept however old it is."""

    events_days: float | None = Field(default=30, ge=1)
    """What detectors saw. An event stays as long as an execution that it led to."""
    executions_days: float | None = Field(default=400, ge=1)
    """What was asked and done, since its newest step. Kept longer: what has not ended, or holds and can be undone."""
    audit_days: float | None = Field(default=400, ge=1)
    """The audit records, and what was put aside because it does not verify."""
    nodes_days: float | None = Field(default=90, ge=1)
    """Nodes without a heartbeat for so long. A node stays as long as an execution on it."""

    def retention(self) -> Retention:
        """In the core's words."""
        return Retention(self.events_days, self.executions_days, self.audit_days, self.nodes_days)


class ProjectorSettings(WorkerSettings):
    """The projector."""

    unsigned_topics: UnsignedTopics = ()
    """Further topics whose events history shows; the same as the responder's."""
    history: str = "sqlite:////var/lib/douse/history.sqlite"
    """Where history is kept: ``sqlite:////path`` or ``postgresql+psycopg://user@host/database?schema=douse``."""
    batch: int = Field(default=1000, ge=1, le=100_000)
    """Records folded in one transaction, at most."""
    retention: RetentionSettings = RetentionSettings()


class GatewaySettings(WorkerSettings):
    """The gateway."""

    history: str = "sqlite:////var/lib/douse/history.sqlite"
    """The projector's history, read only."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """0 takes any free one."""
    admin_token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 (hex) of the admin's bearer token; the token itself is nowhere on the server."""
    requests_per_minute: int = Field(default=600, ge=1, le=1_000_000)
    """For each caller; more are answered 429."""
    storage: StorageSettings = StorageSettings()
    """Where acquired files are read for those who may download them; the nodes' own store."""


S = TypeVar("S", bound=BaseModel)


def _paths(found: BaseModel, prefix: str) -> Iterator[tuple[Path, str]]:
    for name in type(found).model_fields:
        value = getattr(found, name)
        if isinstance(value, BaseModel):
            yield from _paths(value, f"{prefix}{name}.")
        elif isinstance(value, Path):
            yield value, f"{prefix}{name}"


_WORDS: Final = {
    "model_type": "must be a section with keys of its own",
    "dict_type": "must be a section with keys of its own",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "path_type": "must be a path",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}
"""By pydantic's names of faults."""


def parse(kind: type[S], raw: Mapping[str, Any] | None, *, file: Path | None = None) -> S:
    """The settings of one worker; ``file`` is where they were read.

    Raises:
        ConfigError: every fault of the mapping, each with the file and its dotted path.
    """
    try:
        return kind.model_validate(raw if raw is not None else {})
    except ValidationError as error:
        raise ConfigError(tuple(_problem(kind, fault, file) for fault in error.errors())) from None


def _problem(kind: type[BaseModel], fault: Any, file: Path | None) -> Problem:
    path = ".".join(str(part) for part in fault["loc"])
    return Problem(f"{file}: {path}" if file is not None else path, _reason(kind, fault))


def _reason(kind: type[BaseModel], fault: Any) -> str:
    match fault["type"]:
        case "extra_forbidden":
            near = get_close_matches(str(fault["loc"][-1]), _keys_beside(kind, fault["loc"]), n=1)
            return f"unknown key; did you mean {near[0]}?" if near else "unknown key; remove it or correct its spelling"
        case "missing":
            return "is missing and has no default"
        case "string_pattern_mismatch":
            return f"must match {fault['ctx']['pattern']}"
        case known if known in _WORDS:
            return _WORDS[known]
        case _:
            return str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


def _keys_beside(kind: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """The keys that the section of this path has."""
    for part in loc[:-1]:
        field = kind.model_fields.get(str(part))
        inner = section_of(field.annotation) if field is not None else None
        if inner is None:
            return []
        kind = inner
    return list(kind.model_fields)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field of this type holds, optional or not; None where it holds none."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None
