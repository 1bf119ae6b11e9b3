"""The topic catalogue: ``topics/*.yaml``, one file a topic, checked as a whole.

Called by wiring, ``douse topics`` and the tests. Reports every fault of every file at once, each with its path, and
refuses unknown keys: a misspelt retention must not become a default.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from workers.domain.errors import ConfigError, Problem
from workers.domain.log.topic_spec import (
    MIN_IN_SYNC,
    REPLICATION,
    ZONE,
    Acl,
    Format,
    Key,
    Operation,
    Principal,
    TopicSpec,
    acls,
)
from workers.settings import parse
from workers.system.data_files import data_directory, topic_files
from workers.system.yaml_files import read_mapping

_RETENTION: Final = re.compile(r"([1-9][0-9]{0,5})([hd])")
_SECONDS: Final = {"h": 3_600, "d": 86_400}

_Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Value(BaseModel):
    """The form of a record's value."""

    model_config = ConfigDict(extra="forbid")

    format: Format
    records: tuple[str, ...]
    signed: StrictBool = False


class _TopicFile(BaseModel):
    """One file."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    name: str = Field(pattern=r"^[a-z]+(\.[a-z]+)+(\.<zone>)?$")
    """Lower-case words with dots between; may end in ``.<zone>``."""
    summary: _Sentence
    key: Key
    value: _Value
    partitions: StrictInt = Field(ge=1, le=10_000)
    producers: tuple[Principal, ...]
    consumers: tuple[Principal, ...]
    config: dict[str, str] = {}
    """Kafka's own setting names, with texts or numbers."""
    retention: str | None = Field(default=None, validate_default=True)

    @field_validator("retention")
    @classmethod
    def _only_where_records_are_deleted(cls, retention: str | None, found: ValidationInfo) -> str | None:
        config = found.data.get("config")
        if config is not None and (config.get("cleanup.policy") == "compact") == (retention is not None):
            raise ValueError("is for topics that delete: give either it or cleanup.policy: compact")
        if retention is not None and _RETENTION.fullmatch(retention) is None:
            raise ValueError("must be like 24h or 30d")
        return retention

    def spec(self) -> TopicSpec:
        """The topic."""
        kept = _RETENTION.fullmatch(self.retention or "")
        return TopicSpec(
            name=self.name,
            summary=self.summary,
            key=self.key,
            format=self.value.format,
            records=self.value.records,
            signed=self.value.signed,
            partitions=self.partitions,
            producers=self.producers,
            consumers=self.consumers,
            retention_s=int(kept[1]) * _SECONDS[kept[2]] if kept else None,
            config=self.config,
        )


def load_topics() -> tuple[TopicSpec, ...]:
    """The topics that ship with Douse, by name.

    Raises:
        ConfigError: every fault of every file.
    """
    top = data_directory("topics")
    return catalogue({path.relative_to(top).as_posix(): read_mapping(path) for path in topic_files()})


def catalogue(files: Mapping[str, Mapping[str, Any]]) -> tuple[TopicSpec, ...]:
    """The topics of these files, by name.

    Raises:
        ConfigError: every fault of every file.
    """
    problems: list[Problem] = []
    specs: dict[str, TopicSpec] = {}
    for file, content in files.items():
        try:
            spec = parse(_TopicFile, content).spec()
        except ConfigError as error:
            problems += (Problem(f"topics/{file}: {path}", reason) for path, reason in error.problems)
            continue
        if spec.name in specs:
            problems.append(Problem(f"topics/{file}: name", f"{spec.name} is in another file already"))
        specs[spec.name] = spec
    if problems:
        raise ConfigError(tuple(problems))
    return tuple(specs[name] for name in sorted(specs))


def readme(topics: Sequence[TopicSpec]) -> str:
    """``topics/README.md``: the catalogue and the ACLs as people read them."""
    rows = [
        f"| `{t.name}` | {_value(t)} | {t.key} | {_names(t.producers)} | {_names(t.consumers)} | {t.partitions} "
        f"| {_policy(t)} |"
        for t in topics
    ]
    allowed = acls(topics, [ZONE])
    matrix = [
        f"| {principal} | {_allowed(allowed, principal, Operation.WRITE)} "
        f"| {_allowed(allowed, principal, Operation.READ)} |"
        for principal in sorted({acl.principal for acl in allowed})
    ]
    return "\n".join(
        [
            "# Topics",
            "",
            "Generated from the YAML files of this directory by `make docs`; do not edit. Each topic has one file; its",
            "name is in `workers/domain/log/topics.py`, and a test compares the two.",
            "",
            "| topic | value | key | written by | read by | partitions | kept |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            *(f"* `{topic.name}`: {topic.summary}" for topic in topics),
            "",
            "Avro values are in single-object encoding; a signed value is an `Envelope` around the record.",
            f"In production: replication {REPLICATION}, `min.insync.replicas={MIN_IN_SYNC}`, unclean election off.",
            "",
            "## Access rules",
            "",
            "Derived from the same files; what is not here is denied. `node/<zone>` is a node in its own zone;",
            "`*` stands for the generations that `douse topics grow` makes of a zone's command topic.",
            "",
            "| principal | writes | reads |",
            "|---|---|---|",
            *matrix,
            "",
        ]
    )


def _value(topic: TopicSpec) -> str:
    if topic.format is Format.JSON:
        return "JSON, signed" if topic.signed else "JSON"
    inside = ", ".join(f"`{name}`" for name in topic.records)
    return f"signed {inside}" if topic.signed else inside


def _names(principals: Sequence[Principal]) -> str:
    return ", ".join(principals)


def _policy(topic: TopicSpec) -> str:
    if topic.retention_s is None:
        return "newest of each key"
    days, rest = divmod(topic.retention_s, _SECONDS["d"])
    return f"{topic.retention_s // _SECONDS['h']} h" if rest or days < 4 else f"{days} d"


def _allowed(allowed: Sequence[Acl], principal: str, operation: Operation) -> str:
    own = [acl for acl in allowed if (acl.principal, acl.operation) == (principal, operation)]
    names = [f"`{acl.topic}{'*' if acl.prefix else ''}`" for acl in own]
    return ", ".join(names) or "nothing"
