"""Warns of names that were probably not meant: nearly alike, not normalised, or with invisible characters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from triggerstream.core.ids import TIMEOUT_SUFFIX, TaskName, timeout_of
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
from triggerstream.wire.tasksfile.timeouts import UNLESS_FIRED, can_expire

_MOST_PAIRS = 100
"""Pairs of names that are reported: with more, the names are made by a rule that is not known here."""
_FINISHED: Final = "fires `{0}`, its own name, once it has finished"
_OUTCOMES: Final[Mapping[str, str]] = {
    "finished": _FINISHED,
    "done": _FINISHED,
    **dict.fromkeys(
        ("expired", "deadline", "late", "overdue", "timedOut"), "fires `{0}.timeout` when it expires"
    ),
    "failed": (
        "fires nothing when it fails: to act where it has not finished in time, name what it starts from, "
        'and write `"unless": ["{0}"], "delay": "1h"`'
    ),
}
"""Hints for the name of a task with the suffix of an outcome, as in ``t_upload.failed``."""


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
    _timeouts(file, names, findings)
    _outcomes(file, findings)


def _outcomes(file: TasksFile, findings: Findings) -> None:
    """Warn of triggers such as ``t_upload.failed``: a task fires its name and its timeout only."""
    tasks = {entry.name.text for entry in file.entries}
    for trigger in file.triggers().values():
        task, _, outcome = trigger.text.rpartition(".")
        if task in tasks and outcome in _OUTCOMES and trigger.text not in tasks:
            message = (
                f"`{shown(trigger.text)}` never fires {UNLESS_FIRED} a trigger of that name: a task "
                f"{_OUTCOMES[outcome].format(shown(task))}"
            )
            trigger.warn(findings, "never-fires", message)


def _timeouts(file: TasksFile, names: Mapping[str, LocatedName], findings: Findings) -> None:
    """Warn of names that are nearly a ``<task>.timeout`` of the file's tasks, such as ``t_a_timeout``."""
    fired = {timeout_of(entry.task.name) for entry in file.entries if entry.task and can_expire(entry)}
    if not fired:
        return
    others = [name for name in names if name not in fired and not name.endswith(TIMEOUT_SUFFIX)]
    pairs = alike_pairs([*sorted(fired), *others])
    of_both = ((one, other) for one, other in pairs if one in fired and other not in fired)
    for timeout, name in islice(of_both, _MOST_PAIRS):
        message = (
            f"`{shown(name)}` is nearly the same as `{shown(timeout)}`, which fires when that task expires: "
            "is it misspelt?"
        )
        names[name].warn(findings, "nearly-alike", message)


def check_seen(file: TasksFile, findings: Findings, *, seen: Collection[str], at: str) -> None:
    """Warn of triggers that no session kept ``at`` an address has ``seen``, with the nearest that one has."""
    tasks = {entry.name.text for entry in file.entries}
    tasks |= {timeout_of(TaskName(name)) for name in tasks}
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
