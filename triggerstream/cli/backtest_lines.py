"""Lines and tables about a backtest."""

from __future__ import annotations

from collections.abc import Iterator

from triggerstream.cli.printing import brief, count_of, json_line, print_line, table
from triggerstream.core import advice
from triggerstream.core.commands import Command
from triggerstream.core.ids import Json, JsonObject, TaskName
from triggerstream.engine.replay.backtest_counts import BacktestCounts, Example, Kind, TaskCounts
from triggerstream.wire.commands import fields_of
from triggerstream.wire.instants import format_instant

_LEFT_OUT = frozenset(
    {
        *("kind", "id", "session", "task", "instance", "attempt"),
        *("config", "causes", "causeCount", "decidedAt", "traceparent"),
    }
)
"""Fields of a command that an example has elsewhere, or that depend on the file and not on the decision."""
_SHOWN = 3
"""Examples in the output for people; ``--json`` has all that are kept."""
_VALUE = 120
"""Characters of kwargs that a line shows."""
_NAMES = {"expires_us": "expires", "kwargs": "kwargs", "run": "run"}


def show_json(counts: BacktestCounts, *, seconds: float) -> None:
    """Print a line for each task, and one for all."""
    for name in sorted(counts.tasks):
        json_line(task_fields(name, counts.tasks[name]))
    json_line(totals(counts, seconds=seconds))


def task_fields(name: TaskName, task: TaskCounts) -> JsonObject:
    """The line of a task, for programs."""
    examples: JsonObject = {
        kind.value: [_example_fields(one) for one in task.examples[kind]] for kind in Kind if task.kinds[kind]
    }
    return {
        "task": name,
        "old": task.old,
        "new": task.new,
        **{kind.value: task.kinds[kind] for kind in Kind},
        "assumed": task.assumed,
        "examples": examples,
    }


def _example_fields(example: Example) -> JsonObject:
    command = example.command
    return {
        "session": command.session,
        "instance": command.instance,
        "attempt": command.attempt,
        "offset": example.offset,
        "differs": [_NAMES.get(name, name) for name in example.differs],
        "old": _command_fields(example.old),
        "new": _command_fields(example.new),
    }


def _command_fields(command: Command | None) -> Json:
    if command is None:
        return None
    return {name: value for name, value in fields_of(command).items() if name not in _LEFT_OUT}


def totals(counts: BacktestCounts, *, seconds: float) -> JsonObject:
    """The line for all tasks, for programs."""
    return {
        "differs": counts.differs,
        "events": counts.events,
        "sessions": counts.sessions,
        "differing": counts.differing,
        "old": sum(task.old for task in counts.tasks.values()),
        "new": sum(task.new for task in counts.tasks.values()),
        **{kind.value: counts.total(kind) for kind in Kind},
        "assumed": sum(task.assumed for task in counts.tasks.values()),
        "outcomes": {"strays": counts.strays, "moved": counts.moved, "dropped": counts.dropped},
        "unreadable": counts.unreadable,
        "reasons": [*counts.reasons],
        "rejected": {"old": counts.rejected_old, "new": counts.rejected_new},
        "configurations": counts.configurations,
        "misplaced": counts.misplaced,
        "cut": counts.cut,
        "pending": counts.pending,
        "seconds": round(seconds, 3),
        "eventsPerSecond": round(counts.events / max(seconds, 0.001)),
    }


def show_report(counts: BacktestCounts, *, seconds: float, how: str) -> None:
    """Print the tasks whose commands differ with examples, and what the comparison rests on.

    ``how``: the advice that shows one of the examples.
    """
    differing = {
        name: task for name, task in sorted(counts.tasks.items()) if any(task.kinds[kind] for kind in Kind)
    }
    if differing:
        shown = [
            kind for kind in Kind if kind in {Kind.ADDED, Kind.REMOVED, Kind.CHANGED} or counts.total(kind)
        ]
        rows = [
            [name, f"{task.old:,}", f"{task.new:,}", *(f"{task.kinds[kind]:,}" for kind in shown)]
            for name, task in differing.items()
        ]
        table(["task", "commands before", "after", *(kind.value for kind in shown)], rows)
        for name, task in differing.items():
            for kind in shown:
                _show_examples(name, kind, task)
        print_line(how)
    for line in _notes(counts):
        print_line(line)
    old = sum(task.old for task in counts.tasks.values())
    verb = "differs" if counts.differing == 1 else "differ"
    result = (
        f"{counts.differing:,} of {count_of(counts.sessions, 'session')} {verb}"
        if counts.differs
        else f"nothing differs: both files decide the same {count_of(old, 'command')}"
        if counts.events
        else "nothing was compared: the history has no event, or none that `--since` and `--sessions` choose"
    )
    pace = f"{seconds:.1f} s, {counts.events / max(seconds, 0.001):,.0f} a second"
    folded = f"{count_of(counts.events, 'event')} of {count_of(counts.sessions, 'session')} in {pace}"
    print_line(f"{result}; {folded}")


def _show_examples(name: TaskName, kind: Kind, task: TaskCounts) -> None:
    number = task.kinds[kind]
    if not number:
        return
    examples = task.examples[kind][:_SHOWN]
    if kind in {Kind.ADDED, Kind.REMOVED}:
        named = ", ".join(f"{one.command.session} ({one.command.instance})" for one in examples)
        print_line(f"{name}, {kind.value}: {named}{', …' if number > len(examples) else ''}")
        return
    for one in examples:
        print_line(
            f"{name}, {kind.value}: {one.command.session} ({one.command.instance}): {_difference(one)}"
        )
    if number > len(examples):
        print_line(f"{name}, {kind.value}: {number - len(examples):,} more")


def _difference(example: Example) -> str:
    old, new = example.old, example.new
    if old is None or new is None:
        return ""
    if not example.differs:
        return f"decided {format_instant(old.decided_us)}, now {format_instant(new.decided_us)}"
    before, after = fields_of(old), fields_of(new)
    names = [_NAMES.get(name, name) for name in example.differs]
    return "; ".join(
        f"{name} {brief(before.get(name), _VALUE)}, now {brief(after.get(name), _VALUE)}" for name in names
    )


def _notes(counts: BacktestCounts) -> Iterator[str]:
    """The assumptions of the comparison, and the numbers of what was left out of it."""
    assumed = {name: task.assumed for name, task in sorted(counts.tasks.items()) if task.assumed}
    if assumed:
        number = sum(assumed.values())
        by_task = ", ".join(f"{name} {count:,}" for name, count in assumed.items())
        yield (
            f"{count_of(number, 'command')} assumed to finish at once with an empty result, because the "
            f"history has no such command: {by_task}"
        )
    if counts.moved:
        moved = count_of(counts.moved, "outcome")
        yield f"{moved} counted later, because the new file decides the command later"
    if counts.dropped:
        yield (
            f"{count_of(counts.dropped, 'outcome')} left out: the new file does not decide the command, or "
            "decides it with other arguments"
        )
    if counts.strays:
        yield (
            f"{count_of(counts.strays, 'outcome')} refused: the old file does not decide the command, so "
            "another file was in force"
        )
    if counts.unreadable:
        yield f"{count_of(counts.unreadable, 'record')} not folded, as in an engine: {counts.reasons[0]}"
    if counts.rejected_old or counts.rejected_new:
        yield (
            f"triggers that would break a bound: {counts.rejected_old:,} under the old file, "
            f"{counts.rejected_new:,} under the new one"
        )
    if counts.configurations:
        yield (
            f"{count_of(counts.configurations, 'tasks file')} in the history ignored: each file is in force "
            "from the beginning"
        )
    if counts.misplaced:
        yield f"{count_of(counts.misplaced, 'record')} left out: there are copies in the right partitions"
    if counts.cut:
        yield (
            f"{count_of(counts.cut, 'partition')} whose log has lost its beginning: earlier events of "
            "sessions are not known"
        )
    if counts.pending:
        yield (
            f"{count_of(counts.pending, 'session')} with a timer that has not fired when its events end: "
            "--until lets time pass, as in --until +30d"
        )


def explain_advice(*, at: str | None, new: str, events: str, until: str | None) -> str:
    """The advice that shows an example: at an address, or in a file of events."""
    return advice.simulate_examples(new, events, until=until) if at is None else advice.explain_examples(at)
