"""``douse topics diff``, ``apply`` and ``acls``: compare a Kafka cluster with the topic catalogue, and make it match.

Calls wiring. ``acls`` needs no cluster. Never deletes a topic, and never changes its number of partitions or replicas.
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
    list[str] | None, typer.Option("--zone", help="A zone; can be repeated. Default: default.", metavar="ZONE")
]
CopiesOption: TypeAlias = Annotated[
    int, typer.Option("--replication", min=1, max=9, help="Replicas of each partition; 1 only for a trial.")
]


def register(topics: typer.Typer) -> None:
    """Add them to ``douse topics``."""
    topics.command()(diff)
    topics.command()(apply)
    topics.command()(acls)


def diff(config: ConfigOption, zone: ZoneOption = None, replication: CopiesOption = REPLICATION) -> None:
    """Print how a cluster differs from the catalogue; exit 1 if it does."""
    target_cluster = cluster(config, named_zones(zone), replication)
    found = target_cluster.differences(_read_topologies(target_cluster))
    _print(found)
    if found:
        raise typer.Exit(Exit.FAILED)
    typer.echo("the cluster matches the catalogue")


def apply(
    config: ConfigOption,
    zone: ZoneOption = None,
    replication: CopiesOption = REPLICATION,
    acls: Annotated[
        bool, typer.Option("--acls", help="Also grant each worker the access that it needs, and no more.")
    ] = False,
) -> None:
    """Create missing topics and correct settings; exit 1 if a difference is left that this command never changes."""
    if replication < REPLICATION:
        typer.echo(f"warning: {replication} of {REPLICATION} replicas: data that one broker loses is lost", err=True)
    target_cluster = cluster(config, named_zones(zone), replication)
    topologies = _read_topologies(target_cluster)
    made = target_cluster.create(topologies)
    for name in made:
        typer.echo(f"created {name}")
    for each in target_cluster.topics.alter(target_cluster.differences(topologies)):
        typer.echo(f"{each.topic}: {each.setting} changed from {each.found} to {each.wanted}")
    if acls:
        typer.echo(f"{target_cluster.grant()} access rules are in place")
    left = target_cluster.differences(topologies)
    _print(left)
    if left:
        raise Failure(
            "the partitions and replicas of an existing topic are never changed: keys would move to other partitions. "
            "Use `douse topics grow` for a zone's commands; move any other topic by hand, or correct --replication",
            Exit.FAILED,
        )
    typer.echo("the cluster matches the catalogue")


def acls(
    server: Annotated[
        str,
        typer.Option("--bootstrap-server", help="The cluster address in the printed commands.", metavar="HOST:PORT"),
    ] = "localhost:9092",
    command_config: Annotated[
        Path | None,
        typer.Option("--command-config", help="A properties file with the administrator's login.", metavar="FILE"),
    ] = None,
    zone: ZoneOption = None,
) -> None:
    """Print the kafka-acls.sh commands that grant what `topics apply --acls` grants."""
    frame = ["kafka-acls.sh", "--bootstrap-server", server]
    frame += ["--command-config", str(command_config)] if command_config is not None else []
    rules = access_rules(named_zones(zone))
    for rule in rules.topics:
        pattern = ("--resource-pattern-type", "prefixed") if rule.prefix else ()
        _print_rule(frame, rule.principal, rule.operation.value, (*pattern, "--topic", rule.topic))
    for user, group in rules.groups:
        _print_rule(frame, user, "Read", ("--group", group))


def _print_rule(frame: list[str], user: str, operation: str, on: tuple[str, ...]) -> None:
    words = [*frame, "--add", "--allow-principal", f"User:{user}", "--operation", operation, *on]
    typer.echo(shlex.join(words))


def _read_topologies(target_cluster: Cluster) -> "TopologyChains":
    topologies = target_cluster.growth.read()
    report_ignored(topologies)
    return topologies


def report_ignored(topologies: "TopologyChains") -> None:
    """Print which records of ``fleet.topology`` are not followed."""
    for line in topologies.ignored:
        typer.echo(line, err=True)


def named_zones(zones: list[str] | None) -> list[str]:
    """The zones that were given, or the default zone.

    Raises:
        Failure: a name that no zone can have.
    """
    named = zones or ["default"]
    wrong = [zone for zone in named if _ZONE.fullmatch(zone) is None]
    if wrong:
        raise Failure(f"--zone {wrong[0]!r}: a zone is lower-case letters, digits and dashes, at most 63", Exit.USAGE)
    return named


def _print(found: "Sequence[Difference]") -> None:
    for each in found:
        typer.echo(f"{each.topic}: {each.setting} is {each.found}, should be {each.wanted}")
