"""Counts records that no engine has folded yet; until then, answers about sessions are incomplete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from triggerstream.engine.ports import Reader


async def count_unfolded(reader: Reader, partitions: Iterable[int] | None = None) -> Mapping[int, int]:
    """Number of offsets not folded yet, for each partition that has a record among them.

    ``partitions``: None means all. Transaction markers have offsets too, so the number is an upper limit.

    Raises:
        LogError: the log cannot be read; the message says where.
    """
    found: dict[int, int] = {}
    for number in range(await reader.partitions()) if partitions is None else partitions:
        progress = await reader.progress(partition=number)
        # The last offsets of a log may be transaction markers only.
        readable = progress.lag > progress.blocked and await reader.records(
            after=progress.offset - 1, limit=1, partition=number
        )
        if progress.blocked or readable:
            found[number] = progress.lag
    return found


def describe_unfolded(waiting: Mapping[int, int]) -> str:
    """Text for a message about ``waiting``; empty if nothing waits."""
    if not waiting:
        return ""
    count = sum(waiting.values())
    return f"up to {count:,} events are not processed yet" if count > 1 else "1 event is not processed yet"
