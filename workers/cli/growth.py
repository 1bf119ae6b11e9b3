"""``douse topics grow``: create a new command topic with more partitions for a zone, beside the old one.

Calls wiring. Three steps in this order: read the known topologies, create the topic, publish a signed record. If it is
interrupted between two steps, running it again continues. Never shrinks a zone, never changes the old topic.
"""

import time
from typing import Annotated, Final

import typer

from workers.cli.cluster import ConfigOption, CopiesOption, named_zones, report_ignored
from workers.cli.exits import Exit, Failure
from workers.domain.log.topic_spec import REPLICATION
from workers.domain.log.topology import MAX_PARTITIONS, Topology
from workers.wiring.cluster import Cluster, cluster

FAILPOINTS: Final = ("grow.known", "grow.topic_made", "grow.told")


def register(topics: typer.Typer) -> None:
    """Add it to ``douse topics``."""
    topics.command()(grow)


def grow(
    config: ConfigOption,
    zone: Annotated[str, typer.Option("--zone", help="The zone.", metavar="ZONE")],
    partitions: Annotated[
        int, typer.Option("--partitions", min=1, max=MAX_PARTITIONS, help="The new number of partitions.")
    ],
    replication: CopiesOption = REPLICATION,
) -> None:
    """Move a zone's commands to a new topic with more partitions; dispatcher and nodes follow automatically."""
    named_zones([zone])
    target_cluster = cluster(config, [zone], replication, signs=True)
    newest = _newest(target_cluster, zone)
    target_cluster.failpoints.reach("grow.known")
    if partitions == newest.partitions:
        typer.echo(f"{newest.topic} already has {partitions} partitions; nothing was changed")
        return
    if partitions < newest.partitions:
        raise Failure(f"{newest.topic} has {newest.partitions} partitions, and a zone never shrinks", Exit.FAILED)
    after = newest.grown(partitions, at_ns=time.time_ns())
    _make(target_cluster, after)
    target_cluster.failpoints.reach("grow.topic_made")
    target_cluster.growth.write(after)
    target_cluster.failpoints.reach("grow.told")
    typer.echo(
        f"zone {zone}: commands now go to {after.topic} with {partitions} partitions, generation {after.generation}"
    )
    typer.echo(f"{newest.topic} is still read for a day: do not delete it before")


def _newest(target_cluster: Cluster, zone: str) -> Topology:
    topologies = target_cluster.growth.read()
    report_ignored(topologies)
    newest = target_cluster.newest(topologies, zone)
    if newest is None:
        raise Failure(
            f"there is no zone {zone} in this cluster; create it with `douse topics apply --zone {zone}`",
            Exit.NOT_FOUND,
        )
    return newest


def _make(target_cluster: Cluster, after: Topology) -> None:
    made = target_cluster.make(after)
    if not made:  # the answer came from a broker that does not have the metadata yet
        raise Failure(f"{after.topic} is not known to all brokers yet: run this command again", Exit.UNREACHABLE)
    if made != after.partitions:
        raise Failure(
            f"{after.topic} already exists with {made} partitions, and no topology record names it: "
            f"use --partitions {made}, or delete it first",
            Exit.FAILED,
        )
