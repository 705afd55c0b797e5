"""Checks the stored data of a partition: folds its log up to the checkpoint, and compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, field

from triggerstream.core import advice, tasks
from triggerstream.engine.replay.archive import Archive, OnProgress, fold_on, lost_beginning, refold_of
from triggerstream.engine.replay.losses import NewCommand, new_commands
from triggerstream.engine.replay.refold import Difference, Kept, Refold, copied_by, differences

SHOWN = 1_000
"""Differences of a partition that are kept; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Result of a check up to ``offset``. ``refused``: the reason why the partition could not be checked."""

    partition: int
    offset: int = 0
    events: int = 0
    sessions: int = 0
    differing: int = 0
    differences: Sequence[Difference] = ()
    refused: str | None = None
    fold: int | None = None
    """Fold version of the states, if it differs from this release's."""
    new_commands: Sequence[NewCommand] = ()
    """Commands that only this release's fold decides, in that case."""
    misplaced: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    """The places of records that belong to another partition, and their keys."""
    copies: AbstractSet[tuple[int, int]] = frozenset()
    """The places of records, in any partition, that were appended here because they belong here."""

    @property
    def agrees(self) -> bool:
        """True if the stored data equals the result of the log."""
        return self.refused is None and not self.differing


async def check(archive: Archive, on_progress: OnProgress) -> Checked:
    """Compare the stored data of a partition with its log.

    Raises:
        LogError: the log cannot be read.
    """
    kept = await archive.kept()
    number = archive.number
    if kept.lost is not None:
        return Checked(
            partition=number,
            offset=kept.offset or 0,
            refused=f"{kept.lost}; {advice.rebuild_unreadable(archive.address, lasting=kept.lost_lasting)}",
        )
    if kept.offset is None:
        if kept.log_end == kept.log_begin == 0:
            return Checked(partition=number)
        return Checked(partition=number, refused=kept.why)
    if kept.log_begin > 0:
        return Checked(partition=number, offset=kept.offset, refused=lost_beginning(kept))
    if kept.offset > kept.log_end:
        return Checked(partition=number, offset=kept.offset, refused=_lost_end(kept))
    refold = refold_of(archive, kept)
    await fold_on(archive, refold, 0, kept.offset, on_progress)
    found = _compared(archive, refold, kept)
    if found.agrees:
        return found
    # While a changelog is read, compaction may remove entries that newer ones beyond its end replace. A real
    # difference is found again in a second check.
    again = await archive.kept()
    if again.offset is None or again.offset <= kept.offset:
        return found
    await fold_on(archive, refold, kept.offset, again.offset, on_progress)
    return _compared(archive, refold, again)


def _compared(archive: Archive, refold: Refold, kept: Kept) -> Checked:
    refolded = refold.result()
    shown: list[Difference] = []
    differing: set[str | None] = set()
    for found in differences(refolded, kept):
        differing.add(found.session)
        if len(shown) < SHOWN:
            shown.append(found)
    other = kept.fold is not None and kept.fold != tasks.FOLD_VERSION
    return Checked(
        fold=kept.fold if other else None,
        new_commands=new_commands(refolded, kept) if other else (),
        partition=archive.number,
        offset=kept.offset or 0,
        events=refold.events,
        sessions=len(refolded.states),
        differing=len(differing),
        differences=tuple(shown),
        misplaced=refold.misplaced,
        copies=refold.copies,
    )


async def uncopied(archives: Sequence[Archive], found: Sequence[Checked]) -> Mapping[tuple[int, int], str]:
    """By place, the sessions of records that checkpoints count as folded although no partition has them.

    Such records are in another partition than the app's rule gives, and were never appended to the right one.
    ``found`` is the result of :func:`check` for ``archives``.

    Raises:
        LogError: a log cannot be read.
    """
    missing = {place: key for one in found for place, key in one.misplaced.items()}
    for one in found:
        for place in one.copies & missing.keys():
            missing.pop(place, None)
    for archive, one in zip(archives, found, strict=True):
        if not missing:
            break
        # Copies that are not folded yet, including those that a worker has appended since.
        kept = await archive.kept()
        begin = one.offset if one.refused is None else kept.log_begin
        async with aclosing(archive.records(begin, kept.log_end)) as pieces:
            async for records in pieces:
                for place in copied_by(records):
                    missing.pop(place, None)
    return {place: key.decode(errors="backslashreplace") for place, key in missing.items()}


def _lost_end(kept: Kept) -> str:
    return f"its checkpoint is at offset {kept.offset}, the log ends at {kept.log_end}: records were lost"
