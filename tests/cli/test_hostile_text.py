"""Session ids, triggers, reasons and errors come from anywhere: none begins a line or steers a terminal."""

from __future__ import annotations

import ast
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.conftest import Cli
from tests.support.engines import RunningEngine
from triggerstream import cli as commands
from triggerstream.cli.console_log import ConsoleFormatter
from triggerstream.cli.dev.output import LogLines, PlainOutput
from triggerstream.core.events import Failed, Trigger
from triggerstream.core.ids import InstanceId, JsonObject, TriggerName
from triggerstream.core.printable import escape
from triggerstream.wire.records import NewRecord

STEERING = (
    "\n\r\t\x00\x07\x08\x0b\x0c\x1b\x7f\x80\x85\x9b\x9f"
    "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff"
)
SUBTLE = STEERING.replace("\x00", "")
"""A key of Kafka may hold any of it; an argument of a process no NUL."""
FORGED = "s: closed"
HOSTILE = f"evil{SUBTLE}\n{FORGED}\r\n{FORGED}\u2028{FORGED}\x1b[2J[bold red]" + "x" * 300 + f" {FORGED}"
TAME = "tame"


def trigger(name: str, **data: str) -> Trigger:
    return Trigger(name=TriggerName(name), data={**data})


def lines(text: str) -> list[str]:
    """The lines of ``text``, split at every line separator of Unicode."""
    return text.splitlines()


@pytest.fixture(autouse=True)
def fired(engine: RunningEngine) -> None:
    """The same of a session of a tame name and of one of a hostile name, and of their dead letters."""
    for number, session in enumerate((TAME, HOSTILE)):
        engine.append(session, trigger("module1", by=session), trigger("module4"), trigger(session))
        command = engine.commands(number + 1)[number]
        engine.append(session, Failed(instance=InstanceId("t_process#0"), command=command.id, error=session))
        value = b'{"type": "triggerstream.' + session.encode("unicode_escape")[:50] + b'"}'
        engine.append_raw([NewRecord(key=session.encode(), value=value, headers=((session, b"x"),))])


PER_SESSION: Sequence[Sequence[str]] = (
    ("sessions", "list", "--prefix", "{}"),
    ("sessions", "show", "{}"),
    ("sessions", "explain", "{}"),
    ("sessions", "show", "no {}"),
    ("sessions", "export", "no {}"),
    ("instances", "skip", "--task", "{}"),
    ("instances", "resend", "{}", "t_process#0", "--reason", "{}"),
    ("instances", "cancel", "{}", "{}#0"),
    ("instances", "skip", "{}", "{}"),
    ("instances", "replay", "{}", "t_process#0", "--reason", "{}", "--by", "{}"),
    ("instances", "replay", "{}", "t_process#0", "--kwargs", "{}"),
    ("instances", "cancel", "{}", "--task", "t_process", "--dry-run"),
    ("sessions", "explain", "{}", "--task", "{}"),
    ("sessions", "close", "{}", "--reason", "{}"),
    ("sessions", "close", "{}"),
    ("sessions", "erase", "no {}"),
    ("fire", "{}", "{}", "--id", "{}"),
    ("fire", "{}", "{}", "--data", "{}"),
    ("fire", "{}", "triggerstream.{}"),
    ("fire", "{}", "module1", "{}"),
    ("sessions", "list", "--stuck", "{}"),
    ("sessions", "list", "--{}"),
    ("{}",),
    ("sessions", "{}"),
    ("config", "check", "{}"),
    ("simulate", "{}", "{}"),
    ("doctor", "--at", "{short}"),
    ("sessions", "list", "--at", "kafka://{}/x"),
    ("sessions", "list", "--at", "{}://x"),
)


@pytest.mark.parametrize("arguments", PER_SESSION, ids=" ".join)
def test_what_is_printed_of_a_hostile_name_has_the_lines_of_a_tame_one(
    cli: Cli, arguments: Sequence[str]
) -> None:
    tame, hostile = (
        cli(*(argument.replace("{}", name).replace("{short}", name[:60]) for argument in arguments))
        for name in (TAME, HOSTILE)
    )
    for expected, printed in ((tame.out, hostile.out), (tame.err, hostile.err)):
        assert len(lines(printed)) == len(lines(expected)), printed
        assert not any(line.lstrip().startswith(FORGED) for line in lines(printed)), printed
        assert escape(printed.replace("\n", "")) == printed.replace("\n", "")
    assert hostile.status == tame.status


def test_dead_letters_have_a_line_each(cli: Cli) -> None:
    listed = lines(cli("deadletters", "list").out)
    assert len(listed) == len(lines(cli("sessions", "list").out)), "a table of two rows, too"
    tame, hostile = (cli("deadletters", "show", number).out for number in "12")
    assert len(lines(hostile)) == len(lines(tame))
    for out in ("\n".join(listed), hostile):
        assert escape(out.replace("\n", "")) == out.replace("\n", "")


def test_an_argument_that_is_no_utf_8_is_an_error_of_one_line(cli: Cli) -> None:
    ran = cli("sessions", "show", "\udcff")
    assert len(lines(ran.err)) == 1
    assert "\\udcff" in ran.err
    ran = cli("sessions", "export", "\udcff")
    assert (ran.status, ran.err) == (2, "a session id must be valid Unicode\n")


def test_json_stays_json(cli: Cli) -> None:
    ran = cli("sessions", "list", "--prefix", "evil", "--json")
    assert ran.row()["session"] == HOSTILE
    assert escape(ran.out.removesuffix("\n")) == ran.out.removesuffix("\n")


def test_a_simulation_of_hostile_lines_is_told_in_one_line_each(tmp_path: Path) -> None:
    file, events = tmp_path / "tasks.json", tmp_path / "events.jsonl"
    file.write_text('{"t": {"after": ["a"], "run": "tasks.t"}}')
    events.write_text('{"session": "s", "type": "triggerstream.x\\n' + FORGED + '"}\n')
    ran = CliRunner().invoke(commands.main, ["simulate", str(file), str(events)])
    assert len(lines(ran.stderr)) == 1
    assert "\\u000a" in ran.stderr


def test_dev_tells_of_a_hostile_session_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    said: JsonObject = {"session": HOSTILE, "instance": HOSTILE, "run": HOSTILE, "because": [HOSTILE]}
    output = PlainOutput()
    for kind in ("decided", "started", "failed", "dead letter", "finished"):
        more: JsonObject = {"error": HOSTILE, "reason": HOSTILE, "offset": 1, "result": HOSTILE}
        output.write_event({"event": kind, **said, **more})
    output.write_line("worker", HOSTILE)
    output.write_refused(Path("tasks.json"), ValueError(HOSTILE))
    printed = capsys.readouterr()
    assert len(lines(printed.out)) == 6
    assert len(lines(printed.err)) == 2
    assert FORGED not in [line.strip() for line in lines(printed.out + printed.err)]


def logged(handler: logging.Handler) -> None:
    """Have ``handler`` log an error."""
    error = ValueError(HOSTILE)
    raised = (ValueError, error, None)
    handler.handle(
        logging.LogRecord("test", logging.ERROR, "file", 1, f"failed: {HOSTILE}", None, raised, "f")
    )


def test_a_log_line_of_a_worker_begins_with_its_time() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ConsoleFormatter())
    logged(handler)
    first, *rest = lines(stream.getvalue())
    assert " ERROR test: failed: evil" in first
    assert "\\u000a" in first
    assert rest, "the traceback"
    assert all(line.startswith("    ") for line in rest)


def test_a_log_line_of_dev_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logged(LogLines(PlainOutput().write_line))
    assert len(lines(capsys.readouterr().out)) == 1


def test_every_command_prints_through_the_functions_that_escape() -> None:
    """`print_line`, `print_lines`, `table` and `json_line` escape; `click.echo` does not."""
    folder = Path(commands.__file__).parent
    calls = {
        (file.name, ast.unparse(node.func))
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
    }
    printing = {(name, call) for name, call in calls if call in {"click.echo", "click.secho", "print"}}
    # The help, and the one word of a Celery worker that cannot start.
    help_, refusal = ("program.py", "click.echo"), ("celery_app.py", "print")
    assert printing == {("printing.py", "click.echo"), help_, refusal}
