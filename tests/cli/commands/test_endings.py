"""`sessions close | erase | export`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands.test_sessions import trigger
from tests.cli.conftest import SURVEY, Cli
from tests.support.engines import RunningEngine, running_engine
from triggerstream.core.events import Finished
from triggerstream.wire.events import ORIGIN_HEADER
from triggerstream.wire.records import NewRecord


def test_a_closed_session_waits_for_nothing_and_starts_anew(cli: Cli, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"))
    ran = cli("sessions", "close", "s", "--reason", "withdrawn", "--by", "ada")
    assert (ran.status, ran.out, ran.err) == (0, "s: closed\n", "")
    shown = cli("sessions", "show", "s", "--json").row()
    assert (shown["closed"], shown["generation"]) == (True, 1)
    assert shown["instances"]["t_process#0"]["status"] == "cancelled"
    assert shown["instances"]["t_process#0"]["note"] == "withdrawn (ada)"
    engine.append("s", trigger("module4"), trigger("module1"))
    (command,) = engine.commands(1)
    assert (command.instance, command.session) == ("t_process#0", "s")
    assert cli("sessions", "show", "s", "--json").row()["closed"] is False


def test_a_session_that_is_closed_already_is_the_answer_no(cli: Cli, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"))
    assert cli("sessions", "close", "s").status == 0
    ran = cli("sessions", "close", "s", "--json")
    assert (ran.status, ran.row()["applied"]) == (1, False)
    assert ran.row()["reason"] == "the session is closed already"


def test_an_erased_session_is_forgotten_but_for_its_generation(cli: Cli, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"), trigger("module4"))
    (before,) = engine.commands(1)
    engine.append("other", trigger("module1"))
    ran = cli("sessions", "erase", "s", "--json")
    row = ran.row()
    assert (ran.status, row["order"], row["applied"]) == (0, "erase", True)
    shown = cli("sessions", "show", "s", "--json").row()
    assert (shown["generation"], shown["instances"], shown["seen"]) == (1, {}, [])
    engine.append("s", trigger("module1"), trigger("module4"))
    _, after = engine.commands(2)
    assert after.instance == before.instance
    assert after.id != before.id
    assert "t_process#0" in cli("sessions", "show", "other", "--json").row()["instances"]


def test_what_is_exported_simulates_to_the_same_state(
    cli: Cli, engine: RunningEngine, tmp_path: Path
) -> None:
    engine.append("s", trigger("module1"), trigger("module4"))
    (command,) = engine.commands(1)
    engine.append("other", trigger("module1"))
    engine.append(
        "s", Finished(instance=command.instance, command=command.id, result={"n": 1}), trigger("module9")
    )
    ran = cli("sessions", "export", "s")
    assert (ran.status, ran.err) == (0, "")
    assert [row["type"] for row in ran.rows()] == [
        "module1",
        "module4",
        "triggerstream.task.finished",
        "module9",
    ]
    assert {row["session"] for row in ran.rows()} == {"s"}
    (tmp_path / "survey.json").write_text(SURVEY)
    (tmp_path / "s.jsonl").write_text(ran.out)
    files = (str(tmp_path / "survey.json"), str(tmp_path / "s.jsonl"))
    simulated = cli("simulate", *files, "--state", "--json").row()["instances"]
    shown = cli("sessions", "show", "s", "--json").row()["instances"]
    assert {name: found["status"] for name, found in simulated.items()} == {
        name: found["status"] for name, found in shown.items()
    }
    assert simulated["t_mail#0"]["kwargs"] == {"t_process": {"n": 1}}


def test_an_export_with_its_files_simulates_without_one(cli: Cli, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"))
    changed = SURVEY.replace('"module4"]', '"module9"]')
    engine.apply(changed)
    engine.append("s", trigger("module9"))
    engine.commands(1)
    ran = cli("sessions", "export", "s", "--files")
    assert (ran.status, ran.err) == (0, "")
    assert [row.get("apply", row.get("type")) for row in ran.rows()] == [
        SURVEY,
        "module1",
        changed,
        "module9",
    ]
    simulated = cli("simulate", "-", "--state", "--json", stdin=ran.out.encode()).row()["instances"]
    shown = cli("sessions", "show", "s", "--json").row()["instances"]
    assert {name: found["status"] for name, found in simulated.items()} == {"t_process#0": "scheduled"}
    assert {name: found["kwargs"] for name, found in simulated.items()} == {
        name: found["kwargs"] for name, found in shown.items()
    }


def test_copies_of_a_moved_record_are_exported_without_our_id_and_simulate_as_one(
    cli: Cli, engine: RunningEngine, tmp_path: Path
) -> None:
    value = b'{"type": "a", "source": "/shop"}'
    copies = [NewRecord(key=b"s", value=value, headers=((ORIGIN_HEADER, b"2:5:1000000"),))] * 2
    engine.append_raw([*copies, NewRecord(key=b"s", value=value)])
    ran = cli("sessions", "export", "s")
    rows = ran.rows()
    assert [row.get("rehomedfrom") for row in rows] == ["2:5", "2:5", None]
    assert {row["source"] for row in rows} == {"/shop"}
    assert not any("id" in row for row in rows)
    (tmp_path / "every.json").write_text('{"t": {"after": [], "andEvery": "a", "run": "m.p"}}')
    (tmp_path / "s.jsonl").write_text(
        ran.out + '{"session": "s", "type": "a", "rehomedfrom": "of its own"}\n'
    )
    simulated = cli("simulate", str(tmp_path / "every.json"), str(tmp_path / "s.jsonl"), "--state", "--json")
    assert set(simulated.row()["instances"]) == {"t#0", "t#1", "t#2"}


def test_an_export_tells_what_is_no_event_and_takes_those_without_a_key(
    cli: Cli, engine: RunningEngine
) -> None:
    engine.append_raw(
        [
            NewRecord(key=b"s", value=b"{no JSON"),
            NewRecord(key=None, value=b'{"type": "module1", "session": "s"}'),
            NewRecord(key=None, value=b'{"type": "module1", "session": "other"}'),
        ]
    )
    ran = cli("sessions", "export", "s")
    assert [row["type"] for row in ran.rows()] == ["module1"]
    assert ran.err.startswith("offset 1: left out: not JSON")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", ["close", "erase", "export"])
def test_a_session_that_nobody_fired_for_is_the_answer_no(
    cli: Cli, engine: RunningEngine, command: str
) -> None:
    engine.append("s", trigger("module1"))
    ran = cli("sessions", command, "nobody")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "nobody: nothing is known of this session\n"
    assert [row["session"] for row in cli("sessions", "list", "--json").rows()] == ["s"]


def test_without_an_engine_the_order_waits_in_the_log(cli: Cli, tmp_path: Path) -> None:
    with running_engine(tmp_path / "state", SURVEY) as engine:
        engine.append("s", trigger("module1"))
    ran = cli("sessions", "erase", "s", "--wait", "0.1")
    assert ran.status == 1
    assert "s: the order is stored as event 2, but no engine has processed it yet" in ran.err
    with running_engine(tmp_path / "state") as engine:
        engine.append("w", trigger("other"))
        assert cli("sessions", "show", "s", "--json").row()["seen"] == []


def test_sessions_that_are_known_are_ended_beside_one_that_is_not(cli: Cli, engine: RunningEngine) -> None:
    engine.append("s", trigger("module1"))
    engine.append("w", trigger("module1"))
    ran = cli("sessions", "erase", "s", "nobody", "w", "s")
    assert (ran.status, ran.out) == (1, "s: erased\nw: erased\n")
    assert ran.err == "nobody: nothing is known of this session\n"
    assert [row["session"] for row in cli("sessions", "list", "--json").rows()] == ["s", "w"]
