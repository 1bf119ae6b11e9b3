"""``douse doctor``: checks this machine, a detector's alerts and a worker's settings.

Prints one finding per line, with its remedy; changes nothing. Exit 1 if a finding is ``fail``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from workers.cli.exits import Exit
from workers.cli.output import Output, OutputOption, legible, print_rows
from workers.domain.errors import ConfigError, MalformedMessage, Problem, WorkerError
from workers.domain.falco.alert import event_from
from workers.domain.falco.container import container_of
from workers.domain.falco.needs import HOST, Lack, fields_appended, fields_of_alert, fields_of_rules, lacks
from workers.domain.log.topic_spec import believed_unsigned
from workers.domain.log.topics import AUDIT
from workers.domain.machine_check import Finding, Level, examine
from workers.domain.target_kind import NoTarget
from workers.domain.trust.keyset import WARN_DAYS, days_left, expiry_warning
from workers.host.machine_facts import read_facts
from workers.system import yaml_files
from workers.system.clock import SystemClock
from workers.wiring.actions import action_shapes, node_features, privileges_and_mounts
from workers.wiring.catalogues import known_keys, topic_catalogue
from workers.wiring.rules import partitions_of
from workers.wiring.storage_check import gateway_findings, node_findings, node_id_of

if TYPE_CHECKING:
    from workers.settings import Features, KafkaSettings, NodeIdentity, ResponseActions, StorageSettings

S = TypeVar("S", "Features", "KafkaSettings", "NodeIdentity", "StorageSettings")
EVENTS = Annotated[
    list[Path] | None, typer.Option("--event", help="A detector's alert (JSON): report missing fields.", metavar="FILE")
]
RULES = Annotated[
    list[Path] | None,
    typer.Option(
        "--rules", help="Falco's rule files and falco.yaml: report fields that rules do not print.", metavar="FILE"
    ),
]
CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config", help="A worker's settings file: also check its brokers and its object store.", metavar="FILE"
    ),
]
PRIVILEGES = Annotated[
    bool, typer.Option("--privileges", help="Only print the capabilities and mounts that the enabled actions need.")
]


def register(app: typer.Typer) -> None:
    """Add ``douse doctor``."""
    app.command(name="doctor")(doctor)


def doctor(
    event: EVENTS = None,
    rules: RULES = None,
    config: CONFIG = None,
    privileges: PRIVILEGES = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Report what works on this machine, what does not, and what to do about it."""
    from workers.settings import KafkaSettings

    settings = yaml_files.read_mapping(config) if config is not None else {}
    actions = _part(settings, "features", node_features()).respond.response_actions
    if privileges:
        rows = [
            {"action": name, "capabilities": list(needed), "mounts": list(mounts)}
            for name, (needed, mounts) in privileges_and_mounts().items()
            if actions.allows(name)
        ]
        print_rows(rows, output, columns=("action", "capabilities", "mounts"))
        return
    brokers = _brokers(_part(settings, "kafka", KafkaSettings)) if config is not None else ()
    storage = _storage(settings) if config is not None else ()
    unsigned = _unsigned(settings if config is not None else None)
    keyset = _keyset(settings) if config is not None else ()
    settled = (*unsigned, *keyset, *brokers, *storage)
    findings = [*_machine(actions), *_events(event or ()), *_rules(rules or ()), *settled]
    _print(findings, output)
    if any(found.level is Level.FAIL for found in findings):
        raise typer.Exit(Exit.FAILED)


def _part(settings: Mapping[str, Any], key: str, kind: type[S]) -> S:
    """One section of any worker's settings file; ConfigError with the path of each fault."""
    from workers.settings import parse

    content = settings.get(key)
    try:
        return parse(kind, content if content is None or isinstance(content, Mapping) else {"": content})
    except ConfigError as error:
        raise ConfigError(tuple(Problem(f"{key}.{path}".rstrip("."), why) for path, why in error.problems)) from None


def _machine(actions: "ResponseActions") -> Sequence[Finding]:
    """The node's side: with a node's settings, its own sockets and its enabled actions."""
    from workers.wiring.containers import host_containers, host_network_fault

    containers = host_containers(actions, SystemClock())
    needed = {name: needs for name, (needs, _) in privileges_and_mounts().items() if actions.allows(name)}
    fault = host_network_fault(containers) if "isolate_network" in needed else None
    return examine(read_facts(containers.runtimes(), network_fault=fault), needed)


def _events(paths: Sequence[Path]) -> Iterator[Finding]:
    from workers.wire.event_reader import alerts_in

    for path in paths:
        try:
            alerts = alerts_in(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except MalformedMessage as error:
            yield Finding(Level.FAIL, path.name, error.message, "use Falco's JSON output: json_output: true")
            continue
        for number, alert in enumerate(alerts, 1):
            about = path.name if len(alerts) == 1 else f"{path.name}:{number}"
            if not isinstance(alert, Mapping):
                yield Finding(Level.FAIL, about, f"not an alert: {json.dumps(alert)[:40]}", "use JSON objects")
                continue
            present = fields_of_alert(alert)
            if HOST not in present:
                yield Finding(
                    Level.FAIL,
                    about,
                    "has no host, so no node can act on it",
                    "use a version of Falco that writes hostname, and set FALCO_HOSTNAME in a DaemonSet",
                )
            yield from _needs(about, present)
            yield from _contradictions(about, alert)


def _contradictions(about: str, alert: Mapping[str, Any]) -> Iterator[Finding]:
    """An alert whose fields do not agree on the container: it has them all, and is refused all the same."""
    try:
        found = container_of(event_from(alert))
    except MalformedMessage:
        return
    if isinstance(found, NoTarget) and found.code == "container_unclear":
        yield Finding(Level.FAIL, about, found.message, "check the detector's container plugin and its socket")


def _rules(paths: Sequence[Path]) -> Iterator[Finding]:
    documents = {path: yaml_files.read_document(path) for path in paths}
    printed = fields_of_rules(documents.values())
    for name, fields in sorted(printed.items()):
        yield from _needs(f"rule {name!r}", fields)
    if not printed:
        for path, document in documents.items():
            yield from _needs(path.name, fields_appended(document))


def _needs(about: str, present: frozenset[str]) -> Iterator[Finding]:
    found = lacks(present, action_shapes())
    if not found:
        yield Finding(Level.OK, about, "has every field that an action uses")
    for action in dict.fromkeys(lack.action for lack in found):
        of_action = [lack for lack in found if lack.action == action]
        needed = [lack for lack in of_action if lack.needed]
        level = Level.FAIL if needed else Level.WARN
        yield Finding(level, about, f"{action}: {_missing(needed or of_action)}", "add deploy/falco/append_output.yaml")


def _missing(missing: Sequence[Lack]) -> str:
    """The missing fields, and why the first is needed."""
    return f"lacks {', '.join(lack.field for lack in missing)}: {missing[0].why}"


def _unsigned(settings: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Every topic that is believed without a signature, who may write to it, and whether this worker reads it."""
    from workers.settings import KafkaSettings

    named = settings.get("unsigned_topics") if settings is not None else None
    for topic, readers in believed_unsigned(topic_catalogue()):
        writers = " and ".join(topic.producers)
        rule = f"believed without a signature; by the brokers' access rules {writers} may write to it and no other user"
        if settings is None:
            message = f"{rule}; {' and '.join(readers)} read it only where unsigned_topics names it"
            yield Finding(Level.OK, topic.name, message)
        elif not isinstance(named, list) or topic.name not in named:
            yield Finding(Level.OK, topic.name, "not read with these settings: every event must be signed")
        elif _part(settings, "kafka", KafkaSettings).security.protocol == "PLAINTEXT":
            yield Finding(
                Level.WARN,
                topic.name,
                "believed without a signature, and a PLAINTEXT broker has no access rules: every local user may write "
                "to it and have the rules act",
                "take it out of unsigned_topics and send alerts to the gateway, which signs them",
            )
        else:
            yield Finding(Level.OK, topic.name, rule, "douse topics apply --acls puts these rules in place")


def _keyset(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """How long the keyset of a worker's settings is valid: when it has expired, every worker waits."""
    keys = settings.get("keys")
    path = keys.get("keyset") if isinstance(keys, Mapping) else None
    if not isinstance(path, str):
        return
    now_ns = SystemClock().now_ns()
    try:
        keyset = known_keys(Path(path))
    except ConfigError as error:
        yield Finding(Level.FAIL, "keyset", error.message, "copy the newest keyset.json here")
        return
    left, warning = days_left(keyset, now_ns), expiry_warning(keyset, now_ns)
    level = Level.FAIL if left < WARN_DAYS[-1] else Level.WARN if warning else Level.OK
    message = warning or f"version {keyset.version} is valid for {left} days more"
    remedy = "run douse keys renew, copy keyset.json to every worker and restart it" if warning else ""
    yield Finding(level, "keyset", message, remedy)


def _brokers(settings: "KafkaSettings") -> Iterator[Finding]:
    where = settings.bootstrap_servers
    try:
        partitions = partitions_of(settings, AUDIT)
    except WorkerError as error:
        yield Finding(Level.FAIL, "brokers", f"{where}: {error.message}", "check the address, TLS and the credentials")
    else:
        yield Finding(Level.OK, "brokers", f"{where} answers; {AUDIT} has {partitions} partition(s)")


def _storage(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """A node's or a gateway's object store; a worker without a store has nothing to check."""
    from workers.settings import NodeIdentity, StorageSettings

    storage = _part(settings, "storage", StorageSettings)
    if "node" in settings:
        node_id = node_id_of(_part(settings, "node", NodeIdentity))
        if node_id:
            yield from node_findings(storage, node_id)
        else:
            yield Finding(Level.WARN, "object store", "not checked: the node has no id yet", "start the node once")
    elif "storage" in settings:
        yield from gateway_findings(storage)


def _print(findings: Sequence[Finding], output: Output) -> None:
    if output is not Output.TABLE:
        rows = [
            {"level": str(found.level), "about": found.about, "message": found.message, "remedy": found.remedy}
            for found in findings
        ]
        print_rows(rows, output, columns=())
        return
    colours = {Level.OK: typer.colors.GREEN, Level.WARN: typer.colors.YELLOW, Level.FAIL: typer.colors.RED}
    for found in findings:
        mark = typer.style(f"{found.level.value:<5}", fg=colours[found.level])
        remedy = f" -> {found.remedy}" if found.remedy else ""
        typer.echo(f"{mark}{legible(f'{found.about}: {found.message}{remedy}')}")
