"""The port through which a replay reads and replaces a partition, for every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from triggerstream.core.ids import AppId
from triggerstream.engine.configuration_cache import ConfigurationCache, rules_of
from triggerstream.engine.processor import Processor
from triggerstream.engine.replay.refold import Kept, Refold, Refolded
from triggerstream.wire.records import Record
from triggerstream.wire.signature import ControlKeys

OnProgress = Callable[[int, int, int], None]
"""Progress callback: the partition, the offsets done, the offsets in total."""


class RecordReader(Protocol):
    """Reader of the records in one partition of a topic. It belongs to no group, and changes nothing."""

    def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        """The committed records from ``begin`` to before ``end``, in order, in pieces.

        Only a reader that shows batches which cannot be read returns some out of order.

        Raises:
            LogError: the log cannot be read.
        """

    async def since(self, arrival_us: int) -> tuple[int, int]:
        """The first offset of records of this time or later, and the end offset now.

        Raises:
            LogError: the log cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLog:
    """The log of a partition, as a backtest reads it, with what the ids of its commands depend on.

    ``control``: the keys that sign the engine's own events in the log; None: they are not signed. ``close``
    closes the reader.
    """

    app: AppId
    number: int
    partitions: int
    control: ControlKeys | None
    reader: RecordReader
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableDecisions:
    """Decisions, as bytes, with their positions in the commands topic, from the oldest to the newest.

    ``lost``: the position of the newest ones that cannot be read, and the reason; None: all can be read.
    """

    positions: Mapping[bytes, int] = field(default_factory=dict)
    lost: tuple[int, str] | None = None


class Archive(Protocol):
    """A partition: its log, and the data that its engine has stored.

    ``kept`` and ``records`` change nothing, and may be called while the engine runs. Any method raises
    LogError if it is unknown whether it succeeded.
    """

    @property
    def app(self) -> AppId:
        """The app that it belongs to."""

    @property
    def number(self) -> int:
        """The number of the partition."""

    @property
    def partitions(self) -> int:
        """The log's number of partitions."""

    @property
    def address(self) -> str:
        """The address of the app for ``--at``."""

    @property
    def control(self) -> ControlKeys | None:
        """The keys that sign the engine's own events in the log; None: they are not signed."""

    @property
    def configurations(self) -> ConfigurationCache:
        """The parsed tasks files, shared by the partitions of a log."""

    async def fence(self) -> None:
        """Shut out every engine, until ``close`` or until one takes the partition over again.

        Raises:
            UsageError: an engine runs.
        """

    async def kept(self) -> Kept:
        """The stored data, with the first and the end offset of the log."""

    def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        """The records from ``begin`` to before ``end``, in order, in pieces."""

    async def decided(self, arrival_us: int) -> DurableDecisions:
        """Decisions that may be missing from ``kept`` although they were made durable.

        It returns all decisions for records of this arrival or later, and perhaps others. It returns none if
        the stored data never lags behind the decisions.
        """

    async def replace(self, refolded: Refolded, *, offset: int) -> None:
        """Replace all stored data by the result of the log below ``offset``, all or nothing.

        A crash leaves either the old data or the new.

        Raises:
            FencedError: an engine has taken the partition over since ``fence``.
            LogError: it is unknown whether it succeeded; or ``fence`` was not called.
        """

    async def close(self) -> None:
        """Close the partition."""


def refold_of(archive: Archive, kept: Kept) -> Refold:
    """A fold of the partition's log, from its beginning on.

    If the log has lost its beginning, the configurations before it are taken from the stored data.
    """
    before = tuple(one for one in kept.configurations if one.offset < kept.log_begin)
    processor = Processor(
        app=archive.app,
        partition=archive.number,
        partitions=archive.partitions,
        control=archive.control,
        configurations=archive.configurations,
    )
    rules = rules_of(archive.app, before, processor.configurations)
    return Refold(processor, rules)


async def fold_on(archive: Archive, refold: Refold, begin: int, end: int, on_progress: OnProgress) -> None:
    """Fold the records from ``begin`` to before ``end``."""
    on_progress(archive.number, 0, end - begin)
    if begin >= end:
        return
    async with aclosing(archive.records(begin, end)) as pieces:
        async for records in pieces:
            if records:
                refold.fold(records)
                on_progress(archive.number, records[-1].offset + 1 - begin, end - begin)
                await asyncio.sleep(0)  # else signals and clients' heartbeats would wait until the end


def lost_beginning(kept: Kept) -> str:
    """The message about a log that does not begin at 0."""
    return f"its log begins at offset {kept.log_begin}: what was before it cannot be folded again"
