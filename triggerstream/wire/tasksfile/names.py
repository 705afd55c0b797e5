"""Warns of names that were probably not meant: nearly alike, not normalised, or with invisible characters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice

from triggerstream.core.similar_names import (
    alike_pairs,
    describe_character,
    describe_differing_letters,
    invisible_characters,
    nearest,
    normalized,
)
from triggerstream.wire.tasksfile.entries import Entry, TasksFile, first_places
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, shown

_MOST_PAIRS = 100
"""Pairs of names that are reported: with more, the names are made by a rule that is not known here."""


def check_names(file: TasksFile, findings: Findings) -> None:
    """Warn of doubtful names of tasks and triggers, each once, where it first stands."""
    names = _names(file.entries)
    leaves = first_places(leaf.name for entry in file.entries for leaf in entry.leaves)
    for name in (leaves | names).values():
        _characters(name, findings)
    for earlier, later in islice(alike_pairs(names), _MOST_PAIRS):
        where = findings.where(names[earlier].at)
        message = (
            f"`{shown(later)}` is nearly the same as `{shown(earlier)}` at {where}: is one of them misspelt?"
            f"{_difference(earlier, later)}"
        )
        names[later].warn(findings, "nearly-alike", message)


def check_seen(file: TasksFile, findings: Findings, *, seen: Collection[str], at: str) -> None:
    """Warn of triggers that no session kept ``at`` an address has ``seen``, with the nearest that one has."""
    tasks = {entry.name.text for entry in file.entries}
    unknown = sorted(set(seen) - tasks)
    for name in file.triggers().values():
        if name.text in seen or name.text in tasks:
            continue
        likely = nearest(name.text, unknown)
        hint = "" if likely is None else f": did you mean `{shown(likely)}`?"
        message = f"no session kept at {at} has seen `{shown(name.text)}`{hint}"
        name.warn(findings, "never-seen", message)


def _names(entries: Sequence[Entry]) -> dict[str, LocatedName]:
    """Each task and trigger where it first stands. Leaves of several tasks may be nearly alike."""
    return first_places(
        name for entry in entries for name in (entry.name, *(leaf.trigger for leaf in entry.leaves))
    )


def _characters(name: LocatedName, findings: Findings) -> None:
    hidden = invisible_characters(name.text)
    if hidden:
        described = ", ".join(map(describe_character, hidden))
        message = f"`{shown(name.text)}` has characters that nobody sees: {described}"
        name.warn(findings, "invisible-character", message)
    better = normalized(name.text)
    if better != name.text:
        message = (
            f"`{shown(name.text)}` is not in Unicode's form NFKC, to which Python brings the names of "
            f"parameters: write `{shown(better)}`, here and where it is fired"
        )
        name.warn(findings, "not-normalized", message)


def _difference(earlier: str, later: str) -> str:
    letters = describe_differing_letters(earlier, later)
    return f" They differ in {letters}" if letters else ""
