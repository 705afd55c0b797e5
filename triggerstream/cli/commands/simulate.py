"""`triggerstream simulate`: fold events in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from triggerstream.cli.options import json_option
from triggerstream.cli.printing import brief, console, json_line, print_line
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.printable import shorten
from triggerstream.settings import DEFAULT_APP

if TYPE_CHECKING:
    from triggerstream.engine.replay.simulate import RefusedLine, Shown, Simulation, StrayOutcome

_STANDARD_INPUT = "-"
_ALONE = (
    'write `simulate FILE EVENTS…`, or give a list of events in which `{"apply": {tasks}}` stands, as '
    "`sessions export --files` prints it"
)
_SHOWN_CHARACTERS = 60
"""Characters of an argument that a message shows."""


@click.command()
@click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("events", metavar="EVENTS…", nargs=-1)
@click.option(
    "--until",
    metavar="TIME",
    help="Let time pass until TIME, or for +DURATION after the last event, in every session: timers that are "
    "due fire. Else each session's time ends with its own last event.",
)
@click.option("--state", is_flag=True, help="Print each session's state in place of the commands.")
@click.option("--explain", is_flag=True, help="Print each session explained in place of the commands.")
@click.option(
    "--assume-finished",
    is_flag=True,
    help="Finish every command at once with an empty result, so that tasks chain.",
)
@json_option
def simulate(
    *,
    file: Path,
    events: tuple[str, ...],
    until: str | None,
    state: bool,
    explain: bool,
    assume_finished: bool,
    as_json: bool,
) -> None:
    """Print what the tasks file FILE decides for EVENTS; nothing is run.

    EVENTS are files of JSON lines (- reads standard input) or a JSON array, and events in words:

    \b
      "42 module1Received score=3"        a trigger of session 42, with data
      "42 t_report#0 finished result=7"   an outcome of an instance, or an order for it
      +3d                                 lets time pass; @2026-03-01T12:00:00Z sets the clock

    Without FILE, EVENTS is one list that applies its tasks files itself, as that of `sessions export --files`
    does.

    In words, a value is JSON if it can be read as JSON, else text; quotes hold spaces together, dots in keys
    nest. An argument with a space that names no file is an event in words.

    A line is {"session": …, "type": …, "data": …, "id": …, "time": …, "received": …}; only session and type
    are required. Lines of `sessions export` also have the app, from which the ids of commands follow. An
    event arrives at `received`, else at `time`, else with the line before (the first line: in 1970). An
    outcome without `command` belongs to the command of its instance. {"apply": {tasks}, "received": …}
    applies another tasks file.

    Prints the commands in the order in which they are decided, and for people why the others were not. Events
    in words also print each session explained. Files print JSON lines unless standard output is a terminal.
    An event that the engine would make a dead letter, and an outcome that belongs to no command, is reported
    on standard error, and the simulation continues.
    """  # noqa: D301 - click reads the backspace
    from triggerstream.cli.tasks_file import load
    from triggerstream.core.commands import Command
    from triggerstream.core.tasks import NO_CONFIGURATION
    from triggerstream.engine.replay.simulate import Simulation, instances_of
    from triggerstream.wire.answers import to_json
    from triggerstream.wire.commands import fields_of

    if state and explain:
        raise UsageError("--state and --explain: give one of them")
    if events.count(_STANDARD_INPUT) > 1:
        raise UsageError("- is given twice: standard input can be read once")
    alone = not events
    config = NO_CONFIGURATION if alone else load(file)
    events = events or (str(file),)
    in_words = not alone and any(_is_in_words(argument) for argument in events)
    as_json = as_json or not (in_words or _people_read())
    simulation = Simulation(config, app=DEFAULT_APP, name=events[0], assume_finished=assume_finished)
    every = _folded(simulation, events, until)
    for shown in _with_files(simulation, every, events[0]) if alone else every:
        if not isinstance(shown, Command):
            print_line(refusal_line(shown), err=True)
        elif state or explain:
            continue
        elif as_json:
            json_line(fields_of(shown))
        else:
            print_line(f"{shown.session}  {shown.instance}  runs {shown.run}  {brief(shown.kwargs)}")
    if state:
        for session, folded in simulation.sessions():
            instances = instances_of(folded)
            if as_json:
                json_line({"session": session, "instances": instances})
            else:
                print_line(session)
                for instance, fields in instances.items():
                    print_line(f"  {instance}  {brief(fields)}")
    elif explain and as_json:
        for explained in simulation.explained():
            json_line(to_json(explained))
    elif explain or (in_words and not as_json):
        _print_explained(simulation)
    elif not as_json:
        _print_undecided(simulation)


def refusal_line(shown: RefusedLine | StrayOutcome) -> str:
    """The message about an event that the simulation did not take."""
    from triggerstream.engine.replay.simulate import RefusedLine

    if isinstance(shown, RefusedLine):
        return f"{shown.place}: dead letter: {shown.reason}"
    about = f"{shown.instance} of session {shown.session}"
    if shown.command is None:
        return f"{shown.place}: this outcome belongs to no command: {about} has none: {shown.says}"
    return (
        f"{shown.place}: this outcome belongs to no command: the file decides no command {shown.command} for "
        f"{about}"
    )


def _with_files(simulation: Simulation, folded: Iterator[Shown], name: str) -> Iterator[Shown]:
    """The results of a list of events that stands alone on the command line.

    Raises:
        UsageError: the argument is not such a list, or the list applies no tasks file.
    """
    try:
        yield from folded
    except DecodeError as exc:
        if simulation.applied:
            raise
        raise UsageError(f"{exc}; {_ALONE}") from exc
    if not simulation.applied:
        raise UsageError(f"{name}: no tasks file is applied in it; {_ALONE}")


def _folded(simulation: Simulation, events: Sequence[str], until: str | None) -> Iterator[Shown]:
    for argument in events:
        if _is_in_words(argument):
            yield from _spoken(simulation, argument)
        else:
            with _lines(argument) as lines:
                yield from simulation.run(lines, name=argument)
    if until is not None:
        try:
            yield from simulation.wait_until(_instant(until, simulation.now_us))
        except DecodeError as exc:
            raise UsageError(f"--until: {exc}") from exc


def _is_in_words(argument: str) -> bool:
    """True for an event in words, a move of the clock, or an event as JSON; False for a file."""
    if argument == _STANDARD_INPUT or os.path.exists(argument):  # noqa: PTH110 - False for names too long
        return False
    return argument.startswith(("+", "@", "{")) or any(char.isspace() for char in argument.strip())


def _spoken(simulation: Simulation, argument: str) -> Iterator[Shown]:
    from triggerstream.wire.applied_texts import find_applied
    from triggerstream.wire.event_lines import SourceLocation
    from triggerstream.wire.json import loads

    place = SourceLocation(name=f"`{shorten(argument, _SHOWN_CHARACTERS)}`")
    if not argument.startswith("{"):
        yield from simulation.take(argument, place=place)
        return
    text = argument.encode(errors="surrogateescape")
    try:
        value = loads(text)
    except DecodeError as exc:
        raise DecodeError(f"{place}: {exc}") from exc
    applied = find_applied(text, place) if isinstance(value, dict) and "apply" in value else None
    yield from simulation.take(value, place=place, applied=applied)


def _instant(text: str, now_us: int) -> int:
    from triggerstream.wire.durations import parse_duration
    from triggerstream.wire.instants import parse_instant

    if text.startswith("+"):
        micros = parse_duration(text[1:])
        if micros is None:
            raise DecodeError("write +90s, +5m, +36h, +3d or +1h30m, or a time")
        return now_us + micros
    if parse_duration(text) is not None:
        raise DecodeError(f"did you mean `+{text}`?")
    return parse_instant(text, path="TIME")


def _people_read() -> bool:
    """True if standard output is a terminal."""
    return sys.stdout.isatty()


def _print_explained(simulation: Simulation) -> None:
    from triggerstream.cli.commands.sessions import timeline, tree

    for explained in simulation.explained():
        for part in (tree(explained, now_us=explained.clock_us or 0), *timeline(explained)):
            console().print(part)


def _print_undecided(simulation: Simulation) -> None:
    from triggerstream.present import words

    for explained in simulation.explained():
        for line in words.undecided(explained):
            print_line(f"{explained.session}  {line}")


@contextmanager
def _lines(argument: str) -> Iterator[IO[bytes]]:
    if argument == _STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        opened = Path(argument).open("rb")  # noqa: SIM115 - closed below
    except OSError as exc:
        raise UsageError(f"{argument}: cannot be read: {exc.strerror}{_hint(argument)}") from exc
    with opened:
        yield opened


def _hint(argument: str) -> str:
    """The thing that was probably meant by the name of a file that there is not."""
    from triggerstream.wire.event_words import likely_move

    move = likely_move(argument)
    if move is not None:
        return f"; did you mean `{move}`?"
    return "" if os.sep in argument else "; an event in words has a space: SESSION TRIGGER"
