"""`triggerstream simulate`: fold events in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from triggerstream.cli.options import json_option
from triggerstream.cli.printing import brief, json_line, print_line
from triggerstream.core.errors import UsageError
from triggerstream.settings import DEFAULT_APP

if TYPE_CHECKING:
    from triggerstream.engine.replay.simulate import StrayOutcome


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=False))
@click.argument("events", metavar="EVENTS.jsonl", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--state", is_flag=True, help="Print each session's state in place of the commands.")
@click.option(
    "--assume-finished",
    is_flag=True,
    help="Finish every command at once with an empty result, so that tasks chain.",
)
@json_option
def simulate(
    *,
    file: Path,
    events: Path,
    state: bool,
    assume_finished: bool,
    as_json: bool,
) -> None:
    """Print what the tasks file FILE decides for EVENTS.jsonl (- reads standard input); nothing is run.

    A line is {"session": …, "type": …, "data": …, "id": …, "time": …, "received": …}; only session and type
    are required. Lines of `sessions export` also have the app, from which the ids of commands follow. An
    event arrives at `received`, else at `time`, else with the line before (the first line: in 1970). Prints
    the commands in the order in which they are decided, as JSON lines unless standard output is a terminal.
    An event that the engine would make a dead letter, and an outcome that belongs to no command, is reported
    on standard error, and the simulation continues.
    """
    from triggerstream.cli.tasks_file import load
    from triggerstream.engine.replay.simulate import RefusedLine, Simulation, StrayOutcome, instances_of
    from triggerstream.wire.commands import fields_of

    as_json = as_json or not sys.stdout.isatty()
    name = "-" if str(events) == "-" else str(events)
    simulation = Simulation(load(file), app=DEFAULT_APP, name=name, assume_finished=assume_finished)
    with _lines(events) as lines:
        for shown in simulation.run(lines):
            if isinstance(shown, StrayOutcome):
                print_line(f"{name}:{shown.line}:1: {_belongs_to_none(shown)}", err=True)
            elif isinstance(shown, RefusedLine):
                print_line(f"{name}:{shown.line}:1: dead letter: {shown.reason}", err=True)
            elif state:
                continue
            elif as_json:
                json_line(fields_of(shown))
            else:
                print_line(f"{shown.session}  {shown.instance}  runs {shown.run}  {brief(shown.kwargs)}")
    if not state:
        return
    for session, folded in simulation.sessions():
        instances = instances_of(folded)
        if as_json:
            json_line({"session": session, "instances": instances})
        else:
            print_line(session)
            for instance, fields in instances.items():
                print_line(f"  {instance}  {brief(fields)}")


def _belongs_to_none(outcome: StrayOutcome) -> str:
    return (
        f"this outcome belongs to no command: the file decides no command {outcome.command} for "
        f"{outcome.instance} of session {outcome.session}"
    )


@contextmanager
def _lines(path: Path) -> Iterator[IO[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = path.open("rb")
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    with opened:
        yield opened
