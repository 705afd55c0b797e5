"""`triggerstream test`: run the tests in a tasks file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triggerstream.cli.options import json_option
from triggerstream.cli.printing import Styled, brief, console, count_of, json_line, print_line, table
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.settings import DEFAULT_APP

if TYPE_CHECKING:
    from triggerstream.core.commands import Command
    from triggerstream.engine.replay.file_tests import ComparedCommand, FileTestResult
    from triggerstream.wire.xtests import ExpectedCommand

_HOW = 'write `"x-tests": [{"name": "…", "events": ["42 module1Received"], "commands": []}]` into it'


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@json_option
def test(*, file: Path, as_json: bool) -> None:
    """Run the tests in the tasks file FILE (- reads standard input); no task is run.

    \b
      "x-tests": [{
        "name": "both modules make a report",
        "events": ["42 module1Received score=3", "+3d", "42 module4Received"],
        "commands": [{"instance": "t_report#0"}],
      }]

    Events are those of `simulate`: in words, or objects. Each command that they decide must be listed, in
    order; `kwargs` and `run` are compared where they are given. `session` is needed if a test has several.

    The exit status is 1 if a test fails, and 2 if FILE cannot be used or has no tests. A test with a mistake
    fails; the others are run.
    """  # noqa: D301 - click reads the backspace
    from triggerstream.cli.tasks_file import read_content, usable
    from triggerstream.engine.replay.file_tests import run_file_tests
    from triggerstream.wire.xtests import read_tests

    content = read_content(file)
    config = usable(content, file)[0]
    found, mistakes = read_tests(content, name=str(file))
    if mistakes:
        more = f" (and {count_of(len(mistakes) - 1, 'mistake')} more)" if len(mistakes) > 1 else ""
        raise UsageError(f"{file}:{mistakes[0]}{more}")
    results = run_file_tests(config, found, app=DEFAULT_APP)
    if not results:
        likely = "" if found.likely is None else f" (did you mean `x-tests` by `{found.likely}`?)"
        raise UsageError(f"{file}: has no tests{likely}: {_HOW}")
    for result in results:
        if as_json:
            json_line(_fields(result))
        else:
            _print_result(result)
    failed = sum(not result.passed for result in results)
    if not as_json:
        counts = f"{failed} failed" if failed else "all passed"
        print_line(f"{file}: {count_of(len(results), 'test')}: {counts}")
    sys.exit(1 if failed else 0)


def _print_result(result: FileTestResult) -> None:
    from triggerstream.cli.commands.sessions import tree
    from triggerstream.cli.commands.simulate import refusal_line

    if result.passed:
        print_line(Styled(text="passed", colour="green"), f"  {result.test.name}")
        return
    print_line(Styled(text="FAILED", colour="red", bold=True), f"  {result.test.name} ({result.test.place})")
    for mistake in result.mistakes:
        print_line(f"  {mistake}")
    for refused in result.refused:
        print_line(f"  {refusal_line(refused)}")
    several = len(result.sessions) > 1
    if result.commands:
        table(
            ["", "expected", "decided"],
            [
                [
                    "" if one.same else "✗",
                    _shown(one.expected, one, several=several),
                    _shown(one.decided, one, several=several),
                ]
                for one in result.commands
            ],
        )
    different = [one for one in result.commands if not one.same]
    for one in different:
        print_line(f"  {_why(result, one)}")
    concerned = {one.key[0] for one in different}
    for session in result.sessions:
        if session.session in concerned:
            console().print(tree(session, now_us=session.clock_us or 0))


def _shown(command: ExpectedCommand | Command | None, one: ComparedCommand, *, several: bool) -> str:
    """A command in a cell: as much of it as the test says, or as differs."""
    if command is None:
        return "nothing"
    parts = [f"{command.session}  {command.instance}" if several else str(command.instance)]
    expected = one.expected
    if command.run is not None and (expected is None or expected.run is not None):
        parts.append(f"runs {command.run}")
    if command.kwargs is not None and (expected is None or expected.kwargs is not None):
        parts.append(brief(command.kwargs, 1_000))
    return "  ".join(parts)


def _why(result: FileTestResult, one: ComparedCommand) -> str:
    from triggerstream.present import words

    session, instance = one.key
    if one.differs:
        return f"{instance}: differs at {' and '.join(one.differs)}"
    if one.moved:
        return f"{instance}: is expected and decided, but at another place of the order"
    explained = result.session(session)
    if one.expected is None:
        return words.why_decided(explained, instance)
    return words.why_not_decided(explained, instance, result.tasks.get(one.key))


def _fields(result: FileTestResult) -> JsonObject:
    from triggerstream.cli.commands.simulate import refusal_line

    commands: list[Json] = [_command_fields(result, one) for one in result.commands]
    return {
        "name": result.test.name,
        "line": result.test.place.line,
        "column": result.test.place.column,
        "passed": result.passed,
        "commands": commands,
        "mistakes": [*result.mistakes],
        "refused": [refusal_line(one) for one in result.refused],
    }


def _command_fields(result: FileTestResult, one: ComparedCommand) -> JsonObject:
    session, instance = one.key
    return {
        "session": session,
        "instance": instance,
        "same": one.same,
        "expected": _side(one.expected),
        "decided": _side(one.decided),
        "why": None if one.same else _why(result, one),
    }


def _side(command: ExpectedCommand | Command | None) -> JsonObject | None:
    if command is None:
        return None
    fields: JsonObject = {"run": command.run, "kwargs": command.kwargs}
    return {name: value for name, value in fields.items() if value is not None}
