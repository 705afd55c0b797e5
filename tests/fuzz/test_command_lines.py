"""Fuzzer of command lines: whatever is typed, the answer has status 0, 1 or 2, and never a traceback."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.fuzz.harness import INPUTS, Fuzzer, Parser, fuzz, mutate_bytes
from tests.support.engines import running_engine
from triggerstream import settings, variables
from triggerstream.cli import main, parameters, program
from triggerstream.core.errors import TriggerstreamError, UsageError
from triggerstream.core.events import Failed, Trigger
from triggerstream.core.ids import InstanceId, TriggerName
from triggerstream.core.printable import escape
from triggerstream.wire.records import NewRecord

TASKS = '{"t": {"after": ["a"], "run": "tasks.t"}}'
BAD = '{"t": {"after": "a", run: 1}}'
TESTED = (
    '{"t": {"after": ["a"], "run": "tasks.t"}, "x-tests": ['
    '{"name": "n", "events": ["s a", "+1h", {"session": "s", "type": "b"}], "commands": []}]}'
)
EVENTS = '{"session": "s", "type": "a"}\n{"session": 1}\n'

SEEDS: tuple[tuple[str, ...], ...] = (
    (),
    ("--help",),
    ("--version",),
    ("sessions",),
    ("nothing",),
    ("sessions", "list", "--prefix", "s", "--limit", "1", "--status", "failed", "--stuck", "5m"),
    ("sessions", "list", "--json", "--task", "t"),
    ("sessions", "show", "s"),
    ("sessions", "show", "s", "--json"),
    ("sessions", "explain", "s", "--task", "t", "--json"),
    ("sessions", "explain", "s"),
    ("sessions", "export", "s"),
    ("sessions", "export", "s", "--files"),
    ("sessions", "close", "s", "--reason", "r", "--by", "b", "--wait", "5", "--json"),
    ("sessions", "erase", "s2"),
    ("instances", "skip", "s", "t#0", "--cascade", "--result", "{}", "--json"),
    ("instances", "skip", "s", "t#0", "--result", "1"),
    ("instances", "replay", "s", "t#0", "--kwargs", '{"a": {}}', "--force"),
    ("instances", "replay", "s", "t#0", "--kwargs", "[1]"),
    ("instances", "cancel", "--task", "t", "--status", "failed", "--older-than", "1h30m", "--dry-run"),
    ("instances", "resend", "s", "t#0", "--reason", "r"),
    ("instances", "release", "s", "t#0", "--reason", "r"),
    ("instances", "cancel"),
    ("deadletters", "list", "--after", "0", "--limit", "1", "--json"),
    ("deadletters", "show", "1"),
    ("deadletters", "show", "1", "--json"),
    ("deadletters", "redrive", "1", "--wait", "5"),
    ("deadletters", "redrive", "--all", "--dry-run"),
    ("fire", "s", "a", "score=3", "--data", '{"x": 1}', "--id", "i"),
    ("fire", "s", "a", "name=text", "n=null", "l=[1]"),
    ("fire", "s", "a", "--time", "2026-03-01T12:00:00Z", "--source", "x"),
    ("config", "check", "tasks.json", "--strict"),
    ("config", "check", "bad.json", "--json"),
    ("config", "show"),
    ("config", "show", "--json"),
    ("config", "diff", "tasks.json"),
    ("config", "apply", "tasks.json"),
    ("simulate", "tasks.json", "events.jsonl", "--state"),
    ("simulate", "tasks.json", "-"),
    ("simulate", "events.jsonl"),
    ("simulate", "tasks.json"),
    ("simulate", "tasks.json", "s a x.y=1", "+3d", "s t#0 failed error='no luck'", "--until", "+1h"),
    (
        "simulate",
        "tasks.json",
        '{"apply": {"t": {"after": [], "run": 1}}}',
        "@2026-03-01T12:00:00Z",
        "--explain",
    ),
    ("backtest", "tasks.json", "--against", "tested.json", "--from", "events.jsonl", "--processes", "1"),
    ("backtest", "tasks.json", "--against", "tasks.json", "--from", "state", "--processes", "1", "--json"),
    ("test", "tested.json"),
    ("test", "tested.json", "--json"),
    ("test", "tasks.json"),
    ("test", "-"),
    ("replay", "--check", "--json"),
    ("replay", "--rebuild", "--from-offset", "0:1", "--dry-run"),
    ("doctor", "--json"),
    ("topics", "check"),
    ("sessions", "list", "--at", "sqlite:///state/triggerstream.db"),
    ("sessions", "list", "--at", "gone"),
    ("instances", "skip", "s", "t#0", "--cascade", "--result", "9" * 40),
    ("instances", "skip", "s", "t#0", "--cascade", "--result", "{"),
    ("workers", "list"),
)
TOKENS = (
    *("s", "t#0", "t#", "#1", "s\x1b[2J\n", "\udcff", "\u2028", "x" * 300, "-", "--", "-1", "0", "9" * 30),
    *("1e9", "5m", "9999999999d", "{", "{}", "null", "NaN", "[]", '"a"', "[" * 100, "=", "a=", "=1", "a=b=c"),
    *("tasks.json", "bad.json", "events.jsonl", ".", "..", "/", "gone", "bad.json/x", "state", "", " ", "é"),
    *("--json", "--help", "-h", "--at", "--dir", "--limit", "--status", "--task", "--reason", "--wait"),
    *(
        "--data",
        "--id",
        "--result",
        "--kwargs",
        "--force",
        "--all",
        "--dry-run",
        "--kafka-config",
        "--strict",
    ),
    *("sqlite:///", "sqlite://x", "sqlite:///:memory:", "sqlite:////", "ftp://x", "kafka://", "http://"),
    *(word for seed in SEEDS for word in seed),
)
SHARE = 10
"""A command takes some 30 ms: ten times as long as the inputs of other fuzzers. All of them are parsed."""
_ADDRESSES = ("kafka://", "http://", "https://")


def _mutate(chance: random.Random, words: tuple[str, ...]) -> tuple[str, ...]:
    at = chance.randint(0, len(words))
    match chance.randrange(6):
        case 0:
            return words[:at] + words[at + 1 :]
        case 1:
            return (*words[:at], chance.choice(TOKENS), *words[at:])
        case 2:
            return (*words[:at], chance.choice(TOKENS), *words[at + 1 :])
        case 3 if words:
            return (*words[:at], chance.choice(words), *words[at:])
        case 4:
            other = chance.choice(SEEDS)
            return words[:at] + other[chance.randint(0, len(other)) :]
        case _ if at < len(words):
            text = mutate_bytes(chance, words[at].encode(errors="surrogateescape"))
            # The system hands no NUL over to a program.
            word = text.replace(b"\x00", b"").decode(errors="surrogateescape")
            return (*words[:at], word, *words[at + 1 :])
        case _:
            return words


def _leaves_this_machine(words: Sequence[str]) -> bool:
    """A broker or server that no test is to ask."""
    return any(word.lower().startswith(_ADDRESSES) and len(word) > len("https://") for word in words)


def _never_ends(words: Sequence[str]) -> bool:
    """What serves until it is told to end, and the demo, which takes a minute."""
    return any(word in {"dev", "worker", "bridge", "demo", "--broker"} for word in words)


def test_a_command_line_has_an_answer_and_a_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIGGERSTREAM_AT", str(tmp_path / "state"))
    for name, text in (
        ("tasks.json", TASKS),
        ("tested.json", TESTED),
        ("bad.json", BAD),
        ("events.jsonl", EVENTS),
    ):
        (tmp_path / name).write_text(text)
    runner = CliRunner()

    def run(words: tuple[str, ...]) -> None:
        if _leaves_this_machine(words) or _never_ends(words):
            return
        ran = runner.invoke(main, list(words), input=b"")
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert ran.exit_code in {0, 1, 2}, ran.output
        assert "Traceback" not in ran.output
        for line in ran.stderr.split("\n"):
            assert escape(line) == line

    functions = frozenset({"json_value"})
    with running_engine(tmp_path / "state", TASKS) as engine:
        for session in ("s", "s2"):
            engine.append(session, Trigger(name=TriggerName("a"), data={}))
        command = engine.commands(1)[0]
        engine.append("s", Failed(instance=InstanceId("t#0"), command=command.id, error="boom"))
        engine.append_raw([NewRecord(key=b"s", value=b"{")])
        fuzz(
            Fuzzer(
                parse=run,
                refuses=(),
                seeds=SEEDS,
                mutate=_mutate,
                parsers=(
                    Parser(module=program, functions=frozenset({"_usage", "_did_you_mean"})),
                    Parser(module=parameters, functions=functions),
                ),
            ),
            count=INPUTS // SHARE,
        )


def test_the_words_of_a_command_line_are_parsed_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands themselves are not run: that takes a hundred times as long."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variables.KAFKA_CONFIG, "")  # an option sets it while its command runs
    monkeypatch.setenv("TRIGGERSTREAM_AT", str(tmp_path / "state"))
    (tmp_path / "tasks.json").write_text(TASKS)

    def parse(words: tuple[str, ...]) -> None:
        command: click.Command = main
        name, rest, parent = "triggerstream", list(words), None
        with ExitStack() as stack:
            while True:
                context = stack.enter_context(command.make_context(name, rest, parent=parent))
                words_left = [*context._protected_args, *context.args]  # noqa: SLF001 - as click's own invoke
                if not isinstance(command, click.Group) or not words_left:
                    return
                found, subcommand, rest = command.resolve_command(context, words_left)
                assert found is not None
                assert subcommand is not None
                name, command, parent = found, subcommand, context

    with redirect_stdout(io.StringIO()):  # of --help
        fuzz(_words_fuzzer(parse))


def _words_fuzzer(parse: Callable[[tuple[str, ...]], None]) -> Fuzzer[tuple[str, ...]]:
    return Fuzzer(
        parse=parse,
        refuses=(click.ClickException, click.exceptions.Exit, TriggerstreamError),
        seeds=SEEDS,
        mutate=_mutate,
        parsers=(Parser(module=program, functions=frozenset({"_did_you_mean"})),),
    )


def test_an_address_is_read_or_refused_with_one_error() -> None:
    def mutate(chance: random.Random, text: str) -> str:
        tokens = (b"://", b":", b"/", b",", b"[::1]", b"0", b"65536", b"@", b"?", b"#", b"%", b"sqlite")
        return mutate_bytes(chance, text.encode(errors="surrogateescape"), tokens).decode(
            errors="surrogateescape"
        )

    fuzz(
        Fuzzer(
            parse=settings.locate,
            refuses=(UsageError,),
            seeds=(
                "kafka://127.0.0.1:9092/app",
                "kafka://one:1,[::1]:2/",
                "http://127.0.0.1:8777",
                "https://x:0/?a#b",
                "sqlite:///path/x.db",
                "sqlite://x",
                "sqlite:///:memory:",
                "state",
                "x.db",
                "x" * 300,
                "ftp://x",
            ),
            mutate=mutate,
            parsers=(Parser(module=settings),),
        )
    )
