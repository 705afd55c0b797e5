"""`triggerstream topics`: the topics of an app in Kafka."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from triggerstream.cli.opening import administered, run
from triggerstream.cli.options import json_option, kafka_at_option
from triggerstream.cli.printing import json_line, print_line
from triggerstream.core.errors import LogError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triggerstream.engine.operations.administration import TopicFinding

_WAIT_S = 2.0
_KAFKA_ONLY = "only an app in Kafka has topics"


@click.group()
def topics() -> None:
    """Create, check and repair the topics of an app in Kafka."""


@topics.command()
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Number of partitions; it never changes.")
@click.option(
    "--replicas", type=click.IntRange(1, 100), help="Number of replicas: 3, or the number of brokers."
)
@click.option(
    "--repair",
    is_flag=True,
    help="Also correct settings that `topics check` reports, and add missing partitions.",
)
@kafka_at_option
@json_option
def create(
    *, partitions: int | None, replicas: int | None, repair: bool, at: str | None, as_json: bool
) -> None:
    """Create missing topics, with the settings that an app needs.

    Without --repair, existing topics are not changed. The app's number of partitions never changes.
    """
    administration = administered(at, _KAFKA_ONLY)

    async def work() -> tuple[Sequence[str], Sequence[str]]:
        made = await administration.create_topics(partitions=partitions, replicas=replicas)
        return made, await administration.repair_topics() if repair else ()

    made, repaired = run(work())
    if as_json:
        json_line({"made": [*made], "repaired": [*repaired]})
        return
    for name in made:
        print_line(f"{name}: created")
    for name in repaired:
        print_line(f"{name}: repaired")
    if not made and not repaired:
        print_line(f"{administration.address}: all topics are there")


@topics.command()
@click.option("--wait", is_flag=True, help="Wait until the cluster can be reached.")
@kafka_at_option
@json_option
def check(*, wait: bool, at: str | None, as_json: bool) -> None:
    """Report faults of the topics, and their repairs. Exit status 1: no worker would start."""
    administration = administered(at, _KAFKA_ONLY)

    async def work() -> Sequence[TopicFinding]:
        while True:
            try:
                return await administration.check_topics()
            except LogError as exc:
                if not wait:
                    raise
                print_line(f"waiting: {exc}", err=True)
                await asyncio.sleep(_WAIT_S)

    findings = run(work())
    for finding in findings:
        if as_json:
            json_line(
                {
                    "severity": finding.severity.value,
                    "topic": finding.topic,
                    "message": finding.message,
                    "repair": finding.repair,
                }
            )
        else:
            print_line(f"{finding.severity.value}: {finding}")
    if not findings and not as_json:
        print_line(f"{administration.address}: no problems found")
    sys.exit(1 if any(finding.severity.value == "error" for finding in findings) else 0)


@topics.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help="The app's number of partitions, if no checkpoint has it.",
)
@click.option("--dry-run", is_flag=True, help="Append nothing; print what would be appended.")
@kafka_at_option
@json_option
def rehome(*, partitions: int | None, dry_run: bool, at: str | None, as_json: bool) -> None:
    """Append records of partitions that were added to the events topic to the app's own partitions.

    Each copy keeps the original's identity and time, so repeating this duplicates nothing: repeat it until
    your producers choose the partition themselves. Workers may run meanwhile.
    """
    administration = administered(at, _KAFKA_ONLY)

    done = run(administration.rehome(partitions=partitions, dry_run=dry_run))
    if as_json:
        json_line(
            {
                "partitions": done.partitions,
                "added": [*done.added],
                "records": done.records,
                "sessions": done.sessions,
                "appended": not dry_run,
            }
        )
        return
    if not done.added:
        print_line(f"{administration.address}: no partitions were added to its {done.partitions}")
        return
    count = f"{done.records:,} records of {done.sessions:,} sessions {'would be ' if dry_run else ''}appended"
    print_line(f"{count} to the app's {done.partitions} partitions")
