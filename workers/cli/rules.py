"""``douse rules check|print|test``: check and test rule files without a broker.

Calls wiring for the rules and ``domain.rules.plan`` for the requests that they would lead to. Changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from workers.cli.context import DEFAULT_DATA
from workers.cli.exits import Exit
from workers.cli.output import Output, OutputOption, print_document, print_rows
from workers.domain.errors import ConfigError, MalformedMessage
from workers.domain.event import RuntimeEvent
from workers.domain.falco.alert import event_from
from workers.domain.falco.needs import conditions
from workers.domain.request import ActionRequest
from workers.domain.rules.plan import Refusal, plan
from workers.domain.rules.rule import Rule, Rules
from workers.system import yaml_files
from workers.wiring.rules import load_rules

Row: TypeAlias = Mapping[str, Any]
FILES = Annotated[list[Path] | None, typer.Argument(help="Rule files. Default: those of --data.", metavar="FILE…")]
DATA = Annotated[Path, typer.Option("--data", help="Data directory of `douse up`.", metavar="DIR")]
OLDEST_EVENT_S = 300

commands = typer.Typer(name="rules", help="Check, print and test response rules.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``douse rules``."""
    app.add_typer(commands)


@commands.command()
def check(files: Annotated[list[Path], typer.Argument(help="Rule files.", metavar="FILE…")]) -> None:
    """Report every fault in rule files, read together as the responder reads them."""
    rules = load_rules(files)
    enabled = sum(rule.enabled for rule in rules.every)
    for rule in rules.every:
        for condition in conditions(rule):
            typer.echo(f"note: rule {rule.name!r}: {condition}")
    typer.echo(f"{len(files)} file(s), {len(rules.every)} rule(s), {enabled} enabled: no fault found")


@commands.command(name="print")
def print_rules(files: FILES = None, data: DATA = DEFAULT_DATA, output: OutputOption = Output.TABLE) -> None:
    """Show the merged rules, in the order in which they are tried."""
    from workers.system.rule_files import rules_document

    rules = load_rules(_chosen(files, data))
    if output is not Output.TABLE:
        print_document(rules_document(rules), output)
        return
    print_rows(
        [_summary(rule) for rule in rules.every], output, columns=("name", "enabled", "mode", "steps", "cooldown_s")
    )


@commands.command(name="test")
def replay(
    events: Annotated[
        Path, typer.Option("--events", help="Falco alerts: one, a list, or one per line.", metavar="FILE")
    ],
    files: FILES = None,
    data: DATA = DEFAULT_DATA,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replay recorded alerts against rules, as if each had just happened, and print what would be requested."""
    rules = load_rules(_chosen(files, data))
    rows = [row for number, alert in enumerate(_alerts(events), 1) for row in _tested(number, alert, rules)]
    print_rows(rows, output, columns=("event", "detector_rule", "rule", "would", "why_not"))
    if any(row["would"] == "malformed" for row in rows):
        raise typer.Exit(Exit.FAILED)


def _tested(number: int, alert: Any, rules: Rules) -> Iterator[Row]:
    """One row for each rule that matches an alert, or one that explains why none does."""
    row: dict[str, Any] = {"event": number, "event_id": "", "detector_rule": "", "rule": "", "would": "", "why_not": ""}
    try:
        event = event_from(alert)
    except MalformedMessage as error:
        yield row | {"would": "malformed", "why_not": error.message}
        return
    row |= {"event_id": event.event_id, "detector_rule": event.rule}
    matching = rules.matching(event)
    if not matching:
        yield row | {"would": "nothing", "why_not": "no rule matches"}
    for rule in matching:
        yield row | {"rule": rule.name} | _planned(event, rule)


def _planned(event: RuntimeEvent, rule: Rule) -> dict[str, Any]:
    match plan(event, rule, now_ns=event.occurred_at_ns, oldest_event_s=OLDEST_EVENT_S):
        case ActionRequest() as request:
            ending = " (dry run)" if request.dry_run else ""
            would = [
                f"{step.action} {step.target.describe(ancestor=planned.ancestor) if step.target else ''}{ending}"
                for step, planned in zip(request.steps, rule.steps, strict=True)
            ]
            return {"would": "; then ".join(would), "execution_ids": [step.execution_id for step in request.steps]}
        case Refusal(code=code, message=message):
            return {"would": "nothing", "why_not": f"{code}: {message}"}


def _summary(rule: Rule) -> Row:
    steps = [step.action + (f" of ancestor {step.ancestor}" if step.ancestor else "") for step in rule.steps]
    return {
        "name": rule.name,
        "enabled": "yes" if rule.enabled else "no",
        "mode": rule.mode.value,
        "steps": "; then ".join(steps),
        "cooldown_s": rule.cooldown_s,
    }


def _chosen(files: Sequence[Path] | None, data: Path) -> Sequence[Path]:
    """The files named, else those of the responder that ``douse up`` runs."""
    if files:
        return files
    config = data.expanduser() / "config" / "responder.yaml"
    if not config.exists():
        raise ConfigError(f"give rule files, or the --data of a `douse up` ({config} does not exist)")
    named = yaml_files.read_mapping(config).get("rules")
    return [Path(str(name)) for name in named] if isinstance(named, list) else []


def _alerts(path: Path) -> Sequence[Any]:
    from workers.wire.event_reader import alerts_in

    try:
        return alerts_in(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except MalformedMessage as error:
        raise ConfigError(f"{path}: {error.message}") from None
