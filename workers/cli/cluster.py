"""``douse topics diff``, ``apply`` and ``acls``: a real cluster held against the catalogue, and made to match it.

Called by the frame; calls bootstrap. ``acls`` asks no cluster. Never deletes a topic, and never changes how many
partitions or copies one has.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from workers.cli.exits import Exit, Failure
from workers.domain.log.topic_spec import REPLICATION
from workers.wiring.cluster import Cluster, access_rules, cluster

if TYPE_CHECKING:
    from workers.log.admin import Difference
    from workers.log.topologies import TopologyChains

_ZONE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)

ConfigOption: TypeAlias = Annotated[
    Path, typer.Option("--config", help="A file whose kafka: section names the cluster.", metavar="FILE")
]
ZoneOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--zone", help="A zone; say it again for more. Default: default.", metavar="ZONE")
]
CopiesOption: TypeAlias = Annotated[
    int, typer.Option("--replication", min=1, max=9, help="Copies of each partition; 1 only for trying it.")
]


def register(topics: typer.Typer) -> None:
    """Add them to the group of the topics."""
    topics.command()(diff)
    topics.command()(apply)
    topics.command()(acls)


def diff(config: ConfigOption, zone: ZoneOption = None, replication: CopiesOption = REPLICATION) -> None:
    """Where a cluster is not as the catalogue wants it; exit 1 when it is not."""
    asked = cluster(config, named_zones(zone), replication)
    found = asked.differences(_read_topologies(asked))
    _tell(found)
    if found:
        raise typer.Exit(Exit.FAILED)
    typer.echo("the cluster is as the catalogue wants it")


def apply(
    config: ConfigOption,
    zone: ZoneOption = None,
    replication: CopiesOption = REPLICATION,
    acls: Annotated[bool, typer.Option("--acls", help="Also grant each worker what it needs, and no more.")] = False,
) -> None:
    """Make missing topics and correct settings; exit 1 when something is left that this never changes."""
    if replication < REPLICATION:
        typer.echo(f"warning: {replication} of {REPLICATION} copies: what one broker loses is lost", err=True)
    asked = cluster(config, named_zones(zone), replication)
    topologies = _read_topologies(asked)
    made = asked.create(topologies)
    for name in made:
        typer.echo(f"made {name}")
    for each in asked.topics.alter(asked.differences(topologies)):
        typer.echo(f"{each.topic}: {each.setting} is {each.wanted} now, was {each.found}")
    if acls:
        typer.echo(f"{asked.grant()} access rules are in place")
    left = asked.differences(topologies)
    _tell(left)
    if left:
        raise Failure(
            "partitions and copies of a topic that is there are never changed: keys would move to other partitions. "
            "`douse topics grow` gives a zone's commands more; move any other topic by hand, or correct --replication",
            Exit.FAILED,
        )
    typer.echo("the cluster is as the catalogue wants it")


def acls(
    server: Annotated[
        str, typer.Option("--bootstrap-server", help="What the commands name as the cluster.", metavar="HOST:PORT")
    ] = "localhost:9092",
    command_config: Annotated[
        Path | None,
        typer.Option("--command-config", help="A properties file with the administrator's login.", metavar="FILE"),
    ] = None,
    zone: ZoneOption = None,
) -> None:
    """Kafka's own commands that allow what `topics apply --acls` would, to read or to run elsewhere."""
    frame = ["kafka-acls.sh", "--bootstrap-server", server]
    frame += ["--command-config", str(command_config)] if command_config is not None else []
    rules = access_rules(named_zones(zone))
    for rule in rules.topics:
        pattern = ("--resource-pattern-type", "prefixed") if rule.prefix else ()
        _tell_rule(frame, rule.principal, rule.operation.value, (*pattern, "--topic", rule.topic))
    for user, group in rules.groups:
        _tell_rule(frame, user, "Read", ("--group", group))


def _tell_rule(frame: list[str], user: str, operation: str, on: tuple[str, ...]) -> None:
    words = [*frame, "--add", "--allow-principal", f"User:{user}", "--operation", operation, *on]
    typer.echo(shlex.join(words))


def _read_topologies(asked: Cluster) -> "TopologyChains":
    topologies = asked.growth.read()
    report_ignored(topologies)
    return topologies


def report_ignored(topologies: "TopologyChains") -> None:
    """Say which records of ``fleet.topology`` nobody follows: somebody wrote them."""
    for line in topologies.ignored:
        typer.echo(line, err=True)


def named_zones(zones: list[str] | None) -> list[str]:
    """The zones that were named, or the one that everybody has.

    Raises:
        Failure: a name that no zone can have.
    """
    named = zones or ["default"]
    wrong = [zone for zone in named if _ZONE.fullmatch(zone) is None]
    if wrong:
        raise Failure(f"--zone {wrong[0]!r}: a zone is lower-case letters, digits and dashes, at most 63", Exit.USAGE)
    return named


def _tell(found: "Sequence[Difference]") -> None:
    for each in found:
        typer.echo(f"{each.topic}: {each.setting} should be {each.wanted}, is {each.found}")
