"""`triggerstream workers`: the members of an app's consumer groups in Kafka."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from triggerstream.cli.opening import administered, run
from triggerstream.cli.options import json_option, kafka_at_option
from triggerstream.cli.printing import json_line, print_line

if TYPE_CHECKING:
    from triggerstream.engine.operations.administration import GroupMember

_KAFKA_ONLY = "only workers of an app in Kafka form a group"


@click.group()
def workers() -> None:
    """Show the workers and bridges of an app, and remove one that will not come back."""


@workers.command(name="list")
@kafka_at_option
@json_option
def list_(*, at: str | None, as_json: bool) -> None:
    """List the members of the groups of workers and bridges, with their partitions.

    A killed member is listed until its session times out: Kafka does not report when it last heard from a
    member.
    """
    administration = administered(at, _KAFKA_ONLY)
    for group in run(administration.groups()):
        for member in group.members:
            if as_json:
                json_line(
                    {
                        "kind": group.kind,
                        "name": member.name,
                        "id": member.id,
                        "client": member.client,
                        "host": member.host,
                        "partitions": list(member.partitions),
                        "group": group.state,
                    }
                )
            else:
                print_line(_line(group.kind, member))
        if not as_json:
            count = len(group.members)
            state = _STATES.get(group.state, group.state)
            print_line(f"{count} {group.kind}{'' if count == 1 else 's'}; the group is {state}")


_STATES = {
    "Stable": "stable",
    "PreparingRebalance": "changing hands: it waits for members to join again",
    "CompletingRebalance": "changing hands: partitions are being assigned",
    "Empty": "empty",
    "Dead": "not there yet",
}


@workers.command()
@click.argument("name")
@kafka_at_option
def remove(*, name: str, at: str | None) -> None:
    """Remove the member NAME, whose process will not come back, so that others get its partitions at once.

    Removing a running member does no harm: it joins again. Exit status 1: there is no such member.
    """
    administration = administered(at, _KAFKA_ONLY)
    removed = run(administration.remove_member(name))
    for left in removed:
        print_line(f"removed {name} from the group {left}")
    if not removed:
        known = [
            member.name for group in run(administration.groups()) for member in group.members if member.name
        ]
        print_line(
            f"no member of {administration.address} has the name {name}: "
            f"there are {', '.join(known) or 'none'}",
            err=True,
        )
        sys.exit(1)


def _line(kind: str, member: GroupMember) -> str:
    partitions = ", ".join(map(str, member.partitions)) or "none"
    name = member.name or f"(no static name) {member.id}"
    return f"{kind} {name} at {member.host}: partitions {partitions}"
