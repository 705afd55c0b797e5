"""`triggerstream workers`: the members of an app's consumer groups in Kafka."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from triggerstream.cli.options import at_option, in_kafka, json_option, run
from triggerstream.cli.printing import json_line, say

if TYPE_CHECKING:
    from triggerstream.adapters.kafka.group import Member
    from triggerstream.settings import KafkaAddress

_KAFKA_ONLY = "only workers of an app in Kafka form a group"
_TIMEOUT_S = 30.0


@click.group()
def workers() -> None:
    """Show the workers and bridges of an app, and remove one that will not come back."""


@workers.command(name="list")
@at_option
@json_option
def list_(*, at: str, as_json: bool) -> None:
    """List the members of the groups of workers and bridges, with their partitions.

    A killed member is listed until its session times out: Kafka does not report when it last heard from a
    member.
    """
    address = in_kafka(at, _KAFKA_ONLY)
    for kind, (state, members) in run(_groups(address)).items():
        for member in members:
            if as_json:
                json_line(
                    {
                        "kind": kind,
                        "name": member.name,
                        "id": member.id,
                        "client": member.client,
                        "host": member.host,
                        "partitions": list(member.partitions),
                        "group": state,
                    }
                )
            else:
                say(_line(kind, member))
        if not as_json:
            count = len(members)
            say(f"{count} {kind}{'' if count == 1 else 's'}; the group is {_STATES.get(state, state)}")


_STATES = {
    "Stable": "stable",
    "PreparingRebalance": "changing hands: it waits for members to join again",
    "CompletingRebalance": "changing hands: partitions are being assigned",
    "Empty": "empty",
    "Dead": "not there yet",
}


@workers.command()
@click.argument("name")
@at_option
def remove(*, name: str, at: str) -> None:
    """Remove the member NAME, whose process will not come back, so that others get its partitions at once.

    Removing a running member does no harm: it joins again. Exit status 1: there is no such member.
    """
    address = in_kafka(at, _KAFKA_ONLY)
    removed = run(_remove(address, name))
    for group in removed:
        say(f"{name} has left the group {group}")
    if not removed:
        known = [
            member.name for _, members in run(_groups(address)).values() for member in members if member.name
        ]
        say(
            f"no member of {address} has the name {name}: there are {', '.join(known) or 'none'}",
            err=True,
        )
        sys.exit(1)


def _line(kind: str, member: Member) -> str:
    partitions = ", ".join(map(str, member.partitions)) or "none"
    name = member.name or f"(no static name) {member.id}"
    return f"{kind} {name} at {member.host}: partitions {partitions}"


async def _groups(address: KafkaAddress) -> dict[str, tuple[str, Sequence[Member]]]:
    """The state and the members of each group of the app, by kind of member."""
    from triggerstream import bootstrap
    from triggerstream.adapters.kafka.group import members_of
    from triggerstream.adapters.kafka.topics import Topics, bridge_group, worker_group

    connection, topics = bootstrap.kafka(address), Topics.of(address.app)
    groups = {
        "worker": (worker_group(address.app), topics.events),
        "bridge": (bridge_group(address.app), topics.commands),
    }
    return {
        kind: await members_of(connection, group, topic=topic, timeout_s=_TIMEOUT_S)
        for kind, (group, topic) in groups.items()
    }


async def _remove(address: KafkaAddress, name: str) -> Sequence[str]:
    """Remove ``name`` from the app's groups; return the groups of which it was a member."""
    from triggerstream import bootstrap
    from triggerstream.adapters.kafka.group import leave
    from triggerstream.adapters.kafka.topics import bridge_group, worker_group

    connection = bootstrap.kafka(address)
    return [
        group
        for group in (worker_group(address.app), bridge_group(address.app))
        if await leave(connection, group, name=name, timeout_s=_TIMEOUT_S)
    ]
