"""The topic catalogue: ``topics/*.yaml``, one file a topic, checked as a whole.

Called by wiring, ``douse topics`` and the tests. Every fault of every file is reported at once, and an unknown key
is a fault: a misspelt retention must not become a default.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

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
from workers.system.data_files import data_directory, topic_files
from workers.system.yaml_files import read_mapping

E = TypeVar("E", bound=StrEnum)
Fault: TypeAlias = tuple[str, str]
"""Where in the file, and what to do."""

_REQUIRED: Final = {"name", "summary", "key", "value", "partitions", "producers", "consumers"}
_OPTIONAL: Final = {"retention", "config"}
_NAME: Final = re.compile(r"[a-z]+(\.[a-z]+)+(\.<zone>)?")
_RETENTION: Final = re.compile(r"([1-9][0-9]{0,5})([hd])")
_SECONDS: Final = {"h": 3_600, "d": 86_400}


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
        faults = [Problem(f"topics/{file}: {path}", reason) for path, reason in _faults(content)]
        if not faults:
            spec = _spec(content)
            if spec.name in specs:
                faults = [Problem(f"topics/{file}: name", f"{spec.name} is in another file already")]
            specs[spec.name] = spec
        problems += faults
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
            "Made from the files beside this one by `make docs`; do not edit. One file a topic; names are fixed by",
            "`workers/domain/log/topics.py`, and a test holds the two together.",
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
            "## Who may do what",
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


def _faults(content: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _keys("", content, required=_REQUIRED, optional=_OPTIONAL)
    if "name" in content and not _NAME.fullmatch(str(content["name"])):
        yield "name", "must be lower-case words with dots between, and may end in .<zone>"
    if "summary" in content and (not isinstance(content["summary"], str) or not content["summary"].strip()):
        yield "summary", "must say in a sentence what the topic is for"
    if "partitions" in content and not _is_count(content["partitions"]):
        yield "partitions", "must be a whole number from 1 to 10000"
    yield from _words("key", [content.get("key", Key.NONE)], Key)
    yield from _words("producers", content.get("producers", []), Principal)
    yield from _words("consumers", content.get("consumers", []), Principal)
    yield from _value_faults(content.get("value", {"format": "json", "records": []}))
    yield from _retention_faults(content)


def _value_faults(value: Any) -> Iterator[Fault]:
    if not isinstance(value, Mapping):
        yield "value", "must be a mapping of format, records and signed"
        return
    yield from _keys("value.", value, required={"format", "records"}, optional={"signed"})
    yield from _words("value.format", [value.get("format", Format.JSON)], Format)
    if not isinstance(value.get("signed", False), bool):
        yield "value.signed", "must be true or false"
    records = value.get("records", [])
    if not isinstance(records, list) or not all(isinstance(name, str) for name in records):
        yield "value.records", "must be a list of record names"


def _retention_faults(content: Mapping[str, Any]) -> Iterator[Fault]:
    config = content.get("config", {})
    if not isinstance(config, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str | int) for name, value in config.items()
    ):
        yield "config", "must map Kafka's own setting names to texts or numbers"
        return
    compacted = config.get("cleanup.policy") == "compact"
    if compacted == ("retention" in content):
        yield "retention", "is for topics that delete: give either it or cleanup.policy: compact"
    elif not compacted and not _RETENTION.fullmatch(str(content["retention"])):
        yield "retention", "must be like 24h or 30d"


def _keys(path: str, content: Mapping[str, Any], *, required: set[str], optional: set[str]) -> Iterator[Fault]:
    for name in sorted(required - set(content)):
        yield f"{path}{name}", "is missing"
    for name in sorted(str(name) for name in set(content) - required - optional):
        yield f"{path}{name}", "unknown key; remove it or correct its spelling"


def _words(path: str, found: Any, kind: type[E]) -> Iterator[Fault]:
    known = {word.value for word in kind}
    if not isinstance(found, list):
        yield path, f"must be a list of: {', '.join(sorted(known))}"
        return
    for word in found:
        if str(word) not in known:
            yield path, f"{str(word)!r} is none of: {', '.join(sorted(known))}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000


def _spec(content: Mapping[str, Any]) -> TopicSpec:
    value = content["value"]
    kept = _RETENTION.fullmatch(str(content.get("retention", "")))
    return TopicSpec(
        name=content["name"],
        summary=content["summary"].strip(),
        key=Key(content["key"]),
        format=Format(value["format"]),
        records=tuple(value["records"]),
        signed=value.get("signed", False),
        partitions=content["partitions"],
        producers=tuple(Principal(name) for name in content["producers"]),
        consumers=tuple(Principal(name) for name in content["consumers"]),
        retention_s=int(kept[1]) * _SECONDS[kept[2]] if kept else None,
        config={name: str(setting) for name, setting in content.get("config", {}).items()},
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
