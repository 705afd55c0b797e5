"""Progress of the hand-over of commands: the bridge's committed offset, and the commands from there on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

from aiokafka import AIOKafkaConsumer, TopicPartition

from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.group import group_commits
from triggerstream.adapters.kafka.progress import reached_in, topic_in
from triggerstream.adapters.kafka.records import read_range, readable_extents
from triggerstream.adapters.kafka.topics import Topics, bridge_group
from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.core.commands import Command, Decision
from triggerstream.core.errors import DecodeError, LogError
from triggerstream.core.ids import AppId, CommandId
from triggerstream.core.projections import SilentCommand
from triggerstream.engine.handover.unconfirmed_commands import UnconfirmedCommands
from triggerstream.wire.commands import decode

_ANSWER_S = 5.0
"""Maximum time for each question: a page waits for the answers."""
_CHUNK = 500


async def read_hand_overs(
    connection: Connection,
    app: AppId,
    reader: AIOKafkaConsumer,
    commands: Sequence[SilentCommand],
    *,
    uncommitted: AIOKafkaConsumer,
    partition: int,
) -> Mapping[CommandId, HandOver]:
    """Progress of the hand-over of each of ``commands``; "not known" if Kafka refuses."""
    place = TopicPartition(Topics.of(app).commands, partition)
    try:
        found = await _unconfirmed(connection, app, reader, place, uncommitted=uncommitted)
    except LogError as exc:
        found = str(exc)
    if isinstance(found, str):
        unknown = HandOver(state=HandOverState.UNKNOWN, why=found)
        return {one.command: unknown for one in commands}
    return {one.command: found.hand_over(one) for one in commands}


async def _unconfirmed(
    connection: Connection,
    app: AppId,
    reader: AIOKafkaConsumer,
    place: TopicPartition,
    *,
    uncommitted: AIOKafkaConsumer,
) -> UnconfirmedCommands | str:
    """The commands from the bridge's position on, or why nothing is known."""
    group = bridge_group(app)
    async with translate_errors(f"cannot look at the group {group}", timeout_s=_ANSWER_S):
        at = (await group_commits(connection, group, [place])).get(place)
    if at is None:
        return f"no bridge has committed an offset (group {group})"
    async with translate_errors(f"cannot look at {place.topic}", timeout_s=_ANSWER_S):
        # Its client is connected; a page that is refreshed should not connect again each time.
        topic = (await describe(reader._client, [place.topic])).topics.get(place.topic)  # noqa: SLF001 - nothing public
        high = (await uncommitted.end_offsets([place]))[place]
    first, end = (await readable_extents(reader, [place]))[place]
    if topic is None or topic_in(at.metadata) not in {"", topic.id} or not first <= at.offset <= high:
        return f"the offset of the group {group} belongs to no record of {place.topic}"
    found = UnconfirmedCommands(reached=reached_in(at.offset, at.metadata))
    if begun := found.reached.begun:
        found.begun_with = await _first_command(reader, place, max(begun, first), end)
    async with aclosing(read_range(reader, place, at.offset, end, most=_CHUNK, stuck_s=_ANSWER_S)) as read:
        async for records, _ in read:
            for record in records:
                found.read(record.offset, _decoded(record.value))
            if found.enough:
                return found
    found.to_end = end == high
    return found


async def _first_command(
    reader: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int
) -> Command | None:
    """The first command from ``begin`` on; None if there is none."""
    async with aclosing(read_range(reader, place, begin, end, most=1, stuck_s=_ANSWER_S)) as read:
        async for records, _ in read:
            for record in records:
                decision = _decoded(record.value)
                if isinstance(decision, Command):
                    return decision
    return None


def _decoded(value: object) -> Decision | None:
    try:
        return decode(value) if isinstance(value, bytes) else None
    except DecodeError:
        return None
