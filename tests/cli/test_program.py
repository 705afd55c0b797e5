"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from inspect import cleandoc

import click
import pytest

from tests.cli.conftest import Cli
from triggerstream.cli.program import _COMMANDS, main


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], *([name, "--help"] for name in _COMMANDS)])
def test_help_of_every_command_says_what_it_does(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments)
    assert ran.status == 0
    assert "Usage: " in ran.out


def _commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from _commands(found, *path, name)


def test_no_help_shows_a_mark_of_its_source_or_runs_examples_together(cli: Cli) -> None:
    seen = 0
    for path, command in _commands(main):
        out = cli(*path, "--help").out
        assert "\\b" not in out, path
        for paragraph in cleandoc(command.help or "").split("\n\n"):
            if paragraph.startswith("\b\n"):
                lines = {line.strip() for line in out.splitlines()}
                assert lines.issuperset(line.strip() for line in paragraph.splitlines()[1:]), path
                seen += 1
    assert seen >= 2


def test_examples_of_simulate_stand_on_lines_of_their_own(cli: Cli) -> None:
    lines = [line.strip() for line in cli("simulate", "--help").out.splitlines()]
    assert "+3d                                 lets time pass; @2026-03-01T12:00:00Z sets the clock" in lines
    assert '"events": ["42 module1Received score=3", "+3d", "42 module4Received"],' in [
        line.strip() for line in cli("test", "--help").out.splitlines()
    ]


def test_help_lists_every_command(cli: Cli) -> None:
    out = cli("--help").out
    assert all(f"  {name} " in out for name in _COMMANDS)


def test_help_imports_none_of_what_commands_need() -> None:
    heavy = ["celery", "aiohttp", "rich", "asyncio", "sqlite3", "kombu", "redis"]
    code = (
        "import sys; from triggerstream.cli import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print([name for name in {heavy} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_command_that_does_not_exist_is_one_line_with_the_nearest(cli: Cli) -> None:
    ran = cli("simulat")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert "did you mean 'simulate'?" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate"],
        ["fire", "s"],
        ["fire", "s", "t", "--nope"],
        ["sessions", "nope"],
        ["sessions", "list", "--stuck", "long"],
        ["deadletters", "show", "x"],
        ["dev"],
        ["dev", "tasks.json", "--port", "70000"],
    ],
)
def test_wrong_usage_is_one_line_and_status_2(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.count("\n") == 1


def test_no_arguments_show_the_help_and_are_wrong_usage(cli: Cli) -> None:
    ran = cli()
    assert ran.status == 2
    assert "Usage: " in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sessions", "list"],
        ["sessions", "show", "s"],
        ["sessions", "explain", "s"],
        ["deadletters", "list"],
        ["deadletters", "show", "1"],
        ["instances", "skip", "s", "t#0"],
        ["fire", "s", "t"],
    ],
)
def test_a_directory_without_state_is_said_and_not_made(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"{cli.directory}/triggerstream.db: there is no state directory here yet")
    assert ran.err.count("\n") == 1
    assert not cli.directory.exists()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        pytest.param("kafka://127.0.0.1:1/app", "no Kafka answers at 127.0.0.1:1", marks=pytest.mark.slow),
        ("kafka://localhost/app", "'localhost' is not a broker: write hosts with their ports"),
        ("kafka://localhost:9092/an app", "an app's name has up to 200 of the characters"),
        ("redis://localhost", "no scheme 'redis'"),
        ("sqlite://relative.db", "three slashes"),
        ("http://", "a host and a port"),
    ],
)
def test_an_address_of_another_kind_is_one_line(cli: Cli, address: str, says: str) -> None:
    ran = cli("fire", "s", "t", at=address)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


def test_output_that_nobody_reads_any_more_is_no_error() -> None:
    line = '{"session": "s", "type": "a"}'
    code = (
        f'echo \'{{"t": {{"after": [], "andEvery": "a", "run": "r"}}}}\' > /tmp/$$.json; '
        f"yes '{line}' | head -5000 | {sys.executable} -m triggerstream simulate /tmp/$$.json - "
        "| head -1 > /dev/null; rm /tmp/$$.json"
    )
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == ""


@pytest.mark.parametrize("command", ["worker", "bridge"])
@pytest.mark.parametrize("kafka", ["a:b", "a", "a:0", "[::1:9092", "", "a:9092,b"])
def test_an_address_that_is_none_is_one_line(cli: Cli, command: str, kafka: str) -> None:
    more = ("--broker", "memory://", "--allow", "t") if command == "bridge" else ("--without-web",)
    ran = cli(command, "--kafka", kafka, *more)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert "is not a broker" in ran.err


def test_an_http_address_that_is_none_is_one_line(cli: Cli) -> None:
    ran = cli("fire", "s", "t", "--at", "http://[::1")
    assert (ran.status, ran.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("offsets", ["3", "3:5", "3:9-5", "a:1-2", "3:-1-2", "3:1-99999999999999999999"])
@pytest.mark.parametrize("command", ["worker", "bridge"])
def test_offsets_to_skip_are_a_partition_and_a_range(cli: Cli, command: str, offsets: str) -> None:
    ran = cli(command, "--kafka", "127.0.0.1:9", "--skip", offsets)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "write PARTITION:FROM-TO, such as 3:41-57" in ran.err
