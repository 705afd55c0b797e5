"""The port through which a replay reads and replaces a partition, for every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
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
    """A topic's records in one partition. Belongs to no group, and changes nothing."""

    def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        """The committed records from ``begin`` to before ``end``, in order, in pieces.

        Raises:
            LogError: the log cannot be read.
        """

    async def since(self, arrival_us: int) -> tuple[int, int]:
        """Where the records begin that are of this time or later, and where they end now.

        Raises:
            LogError: the log cannot be read.
        """


class Archive(Protocol):
    """A partition: its log, and what is kept of it beside the log.

    ``kept`` and ``records`` change nothing, and may be asked while the engine runs. Any method raises
    LogError where it is not known whether it succeeded.
    """

    @property
    def app(self) -> AppId:
        """The app that it belongs to."""

    @property
    def number(self) -> int:
        """Which partition of the log it is."""

    @property
    def partitions(self) -> int:
        """How many the log has."""

    @property
    def address(self) -> str:
        """The address of the app for ``--at``."""

    @property
    def control(self) -> ControlKeys | None:
        """The keys that the log's events of the engine's own are signed with; None: they are not."""

    @property
    def configurations(self) -> ConfigurationCache:
        """The parsed tasks files, shared by the partitions of a log."""

    async def fence(self) -> None:
        """Shut out every engine, until ``close`` or until one takes the partition over again.

        Raises:
            UsageError: an engine runs.
        """

    async def kept(self) -> Kept:
        """What is kept, with where the log begins and ends."""

    def records(self, begin: int, end: int) -> AsyncGenerator[Sequence[Record]]:
        """The records from ``begin`` to before ``end``, in order, in pieces."""

    async def decided(self, arrival_us: int) -> Collection[bytes]:
        """Decisions, as bytes, that may be missing from ``kept`` although they were made durable.

        All of those for records of this arrival or later, and perhaps others; none where what is kept never
        lags behind the decisions.
        """

    async def replace(self, refolded: Refolded, *, offset: int) -> None:
        """Keep what the log came to below ``offset``, and nothing of what was kept before; all or nothing.

        A crash leaves what was kept before, or the new.

        Raises:
            FencedError: an engine has taken the partition over since ``fence``.
            LogError: not known to have succeeded; or there was no ``fence``.
        """

    async def close(self) -> None:
        """Let go of the partition."""


def refold_of(archive: Archive, kept: Kept) -> Refold:
    """A fold of the partition's log, from its beginning on.

    Of a log that has lost its beginning, what is kept says which configurations were in it.
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
                await asyncio.sleep(0)  # else a signal, or a heartbeat of a client, would wait for the end


def lost_beginning(kept: Kept) -> str:
    """The message about a log that does not begin at 0."""
    return f"its log begins at offset {kept.log_begin}: what was before it cannot be folded again"
