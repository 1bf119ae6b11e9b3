"""``douse topics grow``: a zone's commands get a new topic with more partitions, beside the old one.

Called by the frame; calls bootstrap. Three steps in this order: read what is known, make the topic, tell everybody by a
signed record. Ended between any two of them, it is run again and goes on. Never shrinks, never touches the old topic.
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
    """Add it to the group of the topics."""
    topics.command()(grow)


def grow(
    config: ConfigOption,
    zone: Annotated[str, typer.Option("--zone", help="The zone.", metavar="ZONE")],
    partitions: Annotated[int, typer.Option("--partitions", min=1, max=MAX_PARTITIONS, help="How many it shall have.")],
    replication: CopiesOption = REPLICATION,
) -> None:
    """Give a zone's commands a new topic with more partitions; dispatcher and nodes follow by themselves."""
    named_zones([zone])
    asked = cluster(config, [zone], replication, signs=True)
    newest = _newest(asked, zone)
    asked.failpoints.reach("grow.known")
    if partitions == newest.partitions:
        typer.echo(f"{newest.topic} has {partitions} partitions already; nothing is changed")
        return
    if partitions < newest.partitions:
        raise Failure(f"{newest.topic} has {newest.partitions} partitions, and a zone never shrinks", Exit.FAILED)
    after = newest.grown(partitions, at_ns=time.time_ns())
    _make(asked, after)
    asked.failpoints.reach("grow.topic_made")
    asked.growth.write(after)
    asked.failpoints.reach("grow.told")
    typer.echo(
        f"zone {zone}: commands go to {after.topic} with {partitions} partitions now, generation {after.generation}"
    )
    typer.echo(f"{newest.topic} is still read for a day: keep it that long")


def _newest(asked: Cluster, zone: str) -> Topology:
    topologies = asked.growth.read()
    report_ignored(topologies)
    newest = asked.newest(topologies, zone)
    if newest is None:
        raise Failure(f"there is no zone {zone} here; `douse topics apply --zone {zone}` makes it", Exit.NOT_FOUND)
    return newest


def _make(asked: Cluster, after: Topology) -> None:
    made = asked.make(after)
    if not made:  # another broker than the one that was asked before
        raise Failure(f"{after.topic} is not known everywhere yet: run this again", Exit.UNREACHABLE)
    if made != after.partitions:
        raise Failure(
            f"{after.topic} is there already with {made} partitions, though no record tells of it: "
            f"say --partitions {made}, or delete it first",
            Exit.FAILED,
        )
