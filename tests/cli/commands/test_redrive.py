"""`deadletters redrive`: what can be folded by now is folded, once, as what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import SURVEY, Cli
from tests.support.engines import RunningEngine, running_engine
from triggerstream.core.events import Close, Erase, Failed, Finished, Trigger
from triggerstream.core.ids import TriggerName
from triggerstream.wire.records import NewRecord

BOUNDED = '{"$bounds": {"commandBytes": 2000}, ' + SURVEY.strip()[1:]
LONG = b'{"type": "module4", "data": {"text": "' + b"x" * 3000 + b'"}}'


@pytest.fixture
def refused(engine: RunningEngine) -> RunningEngine:
    """An engine that had too small a bound for the second trigger of `s`, and has it no more."""
    engine.apply(BOUNDED)
    engine.append_raw([NewRecord(key=b"s", value=b'{"type": "module1"}'), NewRecord(key=b"s", value=LONG)])
    engine.apply(SURVEY)
    return engine


def test_what_a_bound_refused_is_folded_once_the_bound_is_gone(cli: Cli, refused: RunningEngine) -> None:
    (letter,) = cli("deadletters", "list", "--json").rows()
    assert "$bounds.commandBytes" in letter["reason"]
    ran = cli("deadletters", "redrive", str(letter["number"]))
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"dead letter {letter['number']}: processed, at offset ")
    (command,) = refused.commands(1)
    assert command.kwargs["module4"] == {"text": "x" * 3000}


def test_it_keeps_its_origins_identity_and_time_and_counts_once(cli: Cli, refused: RunningEngine) -> None:
    (letter,) = cli("deadletters", "list", "--json").rows()
    first = cli("deadletters", "redrive", "--all", "--json").row()
    again = cli("deadletters", "redrive", "--all", "--json").row()
    assert (first["folded"], again["folded"]) == (True, True)
    assert again["offset"] > first["offset"] > letter["offset"]
    (command,) = refused.commands(1)
    (cause,) = [cause for cause in command.causes if cause.trigger == "module4"]
    assert cause.id is None, "its producer gave it none; that of its place is the engine's own"
    (row,) = [
        row for row in cli("sessions", "explain", "s", "--json").row()["timeline"] if row["what"] == "decided"
    ]
    assert row["instance"] == "t_process#0"


def test_what_would_be_refused_again_stays(cli: Cli, engine: RunningEngine) -> None:
    engine.append_raw([NewRecord(key=b"s", value=b'{"type": "module1", "data": [1]}')])
    before = len(cli("deadletters", "list", "--json").rows())
    ran = cli("deadletters", "redrive", "1")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == (
        "dead letter 1: not redriven: it would be refused again: /data: must be an object, is an array\n"
    )
    assert len(cli("deadletters", "list", "--json").rows()) == before


def test_one_that_a_bound_still_refuses_is_a_dead_letter_again(cli: Cli, engine: RunningEngine) -> None:
    engine.apply(BOUNDED)
    engine.append_raw([NewRecord(key=b"s", value=b'{"type": "module1"}'), NewRecord(key=b"s", value=LONG)])
    ran = cli("deadletters", "redrive", "1")
    assert (ran.status, ran.out) == (1, "")
    assert "dead letter 1: a dead letter again, from offset " in ran.err
    assert len(cli("deadletters", "list", "--json").rows()) == 2


PAGES = """{
  "$bounds": {"unresolvedInstances": 1},
  "t_page": {"after": [], "andEvery": "page", "run": "app.page"},
  "t_x": {"after": ["close"], "andEvery": "t_page", "run": "app.x"},
  "t_y": {"after": ["close"], "andEvery": "t_page", "run": "app.y"},
}"""


def test_what_an_outcome_left_out_is_appended_as_an_event_of_its_own_and_counts_once(
    cli: Cli, engine: RunningEngine
) -> None:
    engine.apply(PAGES)
    engine.append("s", Trigger(name=TriggerName("page"), data={}))
    (command,) = engine.commands(1)
    engine.append("s", Finished(instance=command.instance, command=command.id, result={"n": 1}))
    (letter,) = cli("deadletters", "list", "--json").rows()
    assert (letter["leftOut"], letter["session"], letter["headers"]) == (0, "s", {})
    assert letter["reason"].startswith("the trigger `t_page` was left out: a session holds at most 1 ")
    assert letter["value"]["type"] == "t_page"
    assert letter["value"]["id"] == command.id
    assert "left out 0" in cli("deadletters", "list").out
    assert f"offset   {letter['offset']}, left out 0" in cli("deadletters", "show", "1").out
    refused = cli("deadletters", "redrive", "1", "--json")
    assert (refused.status, refused.row()["folded"]) == (1, False)
    assert "$bounds.unresolvedInstances" in refused.row()["reason"]
    engine.apply(PAGES.replace("1}", "2}"))
    for _ in range(2):
        ran = cli("deadletters", "redrive", "1", "--json")
        assert (ran.status, ran.row()["folded"]) == (0, True)
    instances = cli("sessions", "show", "s", "--json").row()["instances"]
    assert {name: one["status"] for name, one in instances.items()} == {
        "t_page#0": "finished",
        "t_x#0": "unstarted",
        "t_y#0": "unstarted",
    }


@pytest.mark.parametrize("end", ["close", "erase", "close and begin anew"])
def test_what_was_left_out_of_a_session_that_was_closed_stays(
    cli: Cli, engine: RunningEngine, end: str
) -> None:
    engine.apply(PAGES)
    engine.append("s", Trigger(name=TriggerName("page"), data={}))
    (command,) = engine.commands(1)
    engine.append("s", Finished(instance=command.instance, command=command.id, result={"n": 1}))
    engine.apply(PAGES.replace("1}", "9}"))
    engine.append("s", Erase() if end == "erase" else Close())
    if "anew" in end:
        engine.append("s", Trigger(name=TriggerName("page"), data={}))
    before = cli("sessions", "show", "s", "--json").out
    ran = cli("deadletters", "redrive", "--all", "--json")
    assert (ran.status, ran.row()["folded"]) == (1, False)
    assert "session s was closed or erased since then" in ran.row()["reason"]
    assert cli("sessions", "show", "s", "--json").out == before


def test_a_skip_that_leaves_something_out_is_said_to_have_applied(cli: Cli, engine: RunningEngine) -> None:
    engine.apply(PAGES)
    engine.append("s", Trigger(name=TriggerName("page"), data={}))
    (command,) = engine.commands(1)
    engine.append("s", Failed(instance=command.instance, command=command.id, error="boom"))
    ran = cli("instances", "skip", "s", "t_page#0", "--cascade", "--json")
    assert (ran.status, ran.row()["applied"]) == (0, True)
    assert [row["leftOut"] for row in cli("deadletters", "list", "--json").rows()] == [0]


def test_a_dry_run_appends_nothing(cli: Cli, refused: RunningEngine) -> None:
    ran = cli("deadletters", "redrive", "--all", "--dry-run")
    assert (ran.status, ran.out) == (0, "dead letter 1: can be read now; nothing was done\n")
    refused.append_raw([NewRecord(key=b"other", value=b'{"type": "module1"}')])
    assert refused.dispatcher.dispatched == []


def test_without_an_engine_the_record_waits_in_the_log(cli: Cli, tmp_path: Path) -> None:
    with running_engine(tmp_path / "state", BOUNDED) as engine:
        engine.append_raw(
            [NewRecord(key=b"s", value=LONG), NewRecord(key=b"s", value=b'{"type": "module1"}')]
        )
        (number,) = [row["number"] for row in cli("deadletters", "list", "--json").rows()]
    ran = cli("deadletters", "redrive", str(number), "--wait", "0.1")
    assert ran.status == 1
    assert "but no engine has processed it yet" in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "or give --all"), (["1", "--all"], "or give --all"), (["7"], "there is no dead letter 7")],
)
def test_what_cannot_be_chosen_is_wrong_usage(
    cli: Cli, engine: RunningEngine, arguments: list[str], says: str
) -> None:
    assert engine.directory == cli.directory
    ran = cli("deadletters", "redrive", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert says in ran.err
