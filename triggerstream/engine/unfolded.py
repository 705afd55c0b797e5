"""Records that no engine has folded yet: while there are some, what is known is not all there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from triggerstream.engine.ports import Reader


async def unfolded(reader: Reader, partitions: Iterable[int] | None = None) -> Mapping[int, int]:
    """By partition, how many offsets of the log wait to be folded; only partitions that have a record there.

    ``partitions``: None means all. Marks of transactions have offsets too, so there are at most so many.

    Raises:
        LogError: the log cannot be read; the message says where.
    """
    found: dict[int, int] = {}
    for number in range(await reader.partitions()) if partitions is None else partitions:
        progress = await reader.progress(partition=number)
        # A log may end in a mark alone.
        if progress.lag > 0 and await reader.records(after=progress.offset - 1, limit=1, partition=number):
            found[number] = progress.lag
    return found


def said_of(waiting: Mapping[int, int]) -> str:
    """What a message says of ``waiting``; empty where nothing waits."""
    if not waiting:
        return ""
    count = sum(waiting.values())
    numbers = ", ".join(map(str, sorted(waiting)))
    places = f"partition{'s' if len(waiting) > 1 else ''} {numbers}"
    records = f"{count:,} records" if count > 1 else "1 record"
    return f"{records} of {places} {'are' if count > 1 else 'is'} not folded yet"
