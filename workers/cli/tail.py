"""``douse tail results|audit|events|nodes``: read the log as an audit consumer does.

Reads the log itself, over wiring, never the history store. Joins no consumer group and commits no offset. Each record
is one line, which always includes whether its signature verified.
"""

import dataclasses
import json
import threading
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from workers.cli.client import LocalDataOption
from workers.cli.context import DEFAULT_DATA
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption, legible
from workers.cli.tail_text import Row, text_of
from workers.cli.worker import stop_on_signals
from workers.domain.errors import MalformedMessage
from workers.domain.event import RuntimeEvent
from workers.domain.log import topics
from workers.domain.log.record import Earliest, Gap, Latest, Record, Start
from workers.domain.node_state import NodeState
from workers.domain.result import ActionResult
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import Envelope, PayloadType
from workers.system import yaml_files
from workers.wiring.subscription import Listening, listening

_POLL_S: Final = 0.2


class Stream(StrEnum):
    """What can be read."""

    RESULTS = "results"
    AUDIT = "audit"
    EVENTS = "events"
    NODES = "nodes"


class From(StrEnum):
    """Where to start."""

    EARLIEST = "earliest"
    LATEST = "latest"


_TOPICS: Final[Mapping[Stream, tuple[str, ...]]] = {
    Stream.RESULTS: (topics.RESULTS,),
    Stream.AUDIT: (topics.AUDIT,),
    Stream.EVENTS: (topics.FALCO_EVENTS, topics.RUNTIME_EVENTS),
    Stream.NODES: (topics.NODES,),
}

_SIGNED: Final[Mapping[str, tuple[PayloadType, type]]] = {
    topics.RESULTS: (PayloadType.RESULT, ActionResult),
    topics.AUDIT: (PayloadType.AUDIT, AuditRecord),
    topics.NODES: (PayloadType.NODE_STATE, NodeState),
    topics.RUNTIME_EVENTS: (PayloadType.EVENT, RuntimeEvent),
}


def register(app: typer.Typer) -> None:
    """Add ``douse tail``."""
    app.command("tail", rich_help_panel="Log")(tail)


def tail(
    stream: Annotated[Stream, typer.Argument(help="What to read.")],
    start: Annotated[
        From, typer.Option("--from", help="Where to start; earliest is the oldest record in the log.")
    ] = From.LATEST,
    most: Annotated[int, typer.Option("--limit", help="End after this many records; 0 for no limit.", min=0)] = 0,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A worker's settings file, for the brokers and the keyset.", metavar="FILE"),
    ] = None,
    data: LocalDataOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print records as they are written, until Ctrl-C."""
    stop = stop_on_signals()
    source = listening(config if config is not None else _settings_in(data))
    try:
        for count, row in enumerate(_rows(source, stream, start, stop), 1):
            typer.echo(_line(row, output), nl=output is not Output.YAML)
            if count == most:
                return
    finally:
        source.reader.close()


def _settings_in(data: Path | None) -> Path:
    path = (data if data is not None else DEFAULT_DATA).expanduser() / "config" / "gateway.yaml"
    if not path.exists():
        raise Failure(f"give --config FILE, or the --data of a `douse up` ({path} does not exist)", Exit.USAGE)
    return path


def _rows(source: Listening, stream: Stream, start: From, stop: threading.Event) -> Iterator[Row]:
    at: Start = Earliest() if start is From.EARLIEST else Latest()
    source.reader.assign({position: at for topic in _TOPICS[stream] for position in source.reader.partitions(topic)})
    while not stop.is_set():
        for delivery in source.reader.poll(_POLL_S):
            match delivery:
                case Gap():
                    yield {"topic": delivery.position.topic, "gap": _plain(delivery)}
                case Record():
                    yield _row(source, delivery)


def _row(source: Listening, record: Record) -> Row:
    """The record's position, whether it verified, and its content."""
    row: Row = {
        "topic": record.position.topic,
        "partition": record.position.partition,
        "offset": record.offset,
        "key": (record.key or b"").decode("utf-8", "backslashreplace"),
    }
    signed = _SIGNED.get(record.position.topic)
    try:
        if signed is None:
            return row | {"verified": None, "record": _plain(source.events.read(record))}
        return row | _opened(source, record.value or b"", *signed)
    except MalformedMessage as error:
        return row | {"verified": False, "reason": error.reason, "message": error.message, "record": None}


def _opened(source: Listening, value: bytes, kind: PayloadType, as_: type[Any]) -> Row:
    """The signed record; one that does not verify is shown too, and marked."""
    if source.verifier is None:
        content = source.codec.decode(source.codec.decode(value, Envelope).payload, as_)
        return {"verified": False, "reason": "no_keyset", "record": _plain(content)}
    try:
        opened = source.verifier.verify(value, kind, as_)
    except MalformedMessage as error:
        content = source.codec.decode(source.codec.decode(value, Envelope).payload, as_)
        return {"verified": False, "reason": error.reason, "record": _plain(content)}
    signer = {"key_id": opened.signatory.key_id, "role": opened.signatory.role, "owner": opened.signatory.owner}
    return {"verified": True, "signer": signer, "sha256": opened.sha256, "record": _plain(opened.record)}


def _plain(value: object) -> Any:
    """A record as JSON: bytes in hex, enumerations as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    match value:
        case Mapping():
            return {str(name): _plain(each) for name, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
        case bytes():
            return value.hex()
        case StrEnum():
            return value.value
        case _:
            return value


def _line(row: Row, output: Output) -> str:
    match output:
        case Output.JSON:
            return json.dumps(row, ensure_ascii=False)
        case Output.YAML:
            return "---\n" + yaml_files.text_of(row)
        case Output.TABLE:
            return legible(text_of(row))
