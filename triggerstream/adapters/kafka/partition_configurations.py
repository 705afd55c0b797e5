"""The configuration in force in each partition of the log."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import aclosing
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.layout import Layout, newest_marks
from triggerstream.adapters.kafka.lost import LostRanges
from triggerstream.adapters.kafka.reader import KafkaReader
from triggerstream.adapters.kafka.records import first_record, read_range, readable_extents, record_of
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.errors import ConfigError, DecodeError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import AppId, ConfigHash
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.configure import check_succession
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire.events import decode
from triggerstream.wire.marks import CheckpointMark
from triggerstream.wire.records import Record
from triggerstream.wire.signature import SIGNATURE_HEADER


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionConfiguration:
    """The configuration in force in a partition. ``record``: its event, if the log still holds it."""

    number: int = 0
    hash: ConfigHash | None = None
    offset: int = -1
    record: Record | None = None


async def kept_configuration(
    connection: Connection, app: AppId, wanted: ConfigHash
) -> ConfigurationText | None:
    """The configuration from the changelog of partition 0, for a log that has lost its record."""
    view = KafkaReader(connection, app)
    try:
        found = [one for one in await view.configurations() if one.hash == wanted]
    finally:
        await view.close()
    return found[-1] if found else None


async def standing_configurations(
    reader: AIOKafkaConsumer,
    connection: Connection,
    app: AppId,
    layout: Layout,
    partitions: Collection[int],
    *,
    timeout_s: float,
) -> dict[int, PartitionConfiguration]:
    """The configuration in force in each of ``partitions``."""
    topics = Topics.of(app)
    marks = await newest_marks(connection, app, timeout_s=timeout_s) if layout.marked else {}
    configurations = ConfigurationCache()
    found: dict[int, PartitionConfiguration] = {}
    for number in partitions:
        mark = marks.get(number)
        if not isinstance(mark, CheckpointMark) or mark.identity != layout.identity:
            mark = None  # offsets of another log mean nothing here
        async with translate_errors(f"cannot read {topics.events}", timeout_s=timeout_s):
            place = TopicPartition(topics.events, number)
            found[number] = await _follow(reader, connection, app, place, mark, configurations=configurations)
    return found


async def _follow(
    reader: AIOKafkaConsumer,
    connection: Connection,
    app: AppId,
    place: TopicPartition,
    mark: CheckpointMark | None,
    *,
    configurations: ConfigurationCache,
) -> PartitionConfiguration:
    """The configuration in force at the end of a partition, once its owner has folded everything."""
    first, end = (await readable_extents(reader, [place]))[place]
    lost = LostRanges(connection, app, place.partition)
    standing = PartitionConfiguration()
    begin = first
    if mark is not None and mark.configuration is not None:
        known = mark.configuration
        record = await _record(reader, place, known.offset, first, lost)
        if record is not None:
            _refuse_without_key(record, connection, app)
        standing = PartitionConfiguration(
            number=known.number, hash=known.hash, offset=known.offset, record=record
        )
        begin = max(first, mark.offset)
    async with aclosing(read_range(reader, place, begin, end, after_lost=lost.after)) as read:
        async for records, _ in read:
            for record in records:
                if record.key is None:
                    standing = _accepted(
                        record_of(record), connection, app, standing, configurations=configurations
                    )
    return standing


async def _record(
    reader: AIOKafkaConsumer, place: TopicPartition, offset: int, first: int, lost: LostRanges
) -> Record | None:
    """The record at ``offset``; None if there is none, or if it is before ``first``, where the log begins."""
    if offset < first:
        return None
    found = await first_record(reader, place, offset, offset + 1, after_lost=lost.after)
    return None if found is None else record_of(found)


def _accepted(
    record: Record,
    connection: Connection,
    app: AppId,
    standing: PartitionConfiguration,
    *,
    configurations: ConfigurationCache,
) -> PartitionConfiguration:
    """The configuration in force after ``record``; a record that would be a dead letter has no effect."""
    control = connection.security.control
    try:
        event = decode(record)
        if control is not None:
            event = control.authenticate(app, record, event)
        if not isinstance(event, ConfigApplied):
            return standing
        number = check_succession(event, replaces=standing.hash, number=standing.number)
        configurations.read(event.text)
    except (DecodeError, ConfigError):
        return standing
    _refuse_without_key(record, connection, app)
    return PartitionConfiguration(number=number, hash=event.hash, offset=record.offset, record=record)


def _refuse_without_key(record: Record, connection: Connection, app: AppId) -> None:
    signed = any(name == SIGNATURE_HEADER for name, _ in record.headers)
    if signed and connection.security.control is None:
        raise UsageError(
            f"the configuration of {app} is signed: name the app's control key as control_key_file in the "
            "file of --kafka-config; what is not signed would not be taken"
        )
