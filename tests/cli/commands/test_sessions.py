"""`sessions list | show | explain`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.support.commands import Ran
from tests.support.engines import RunningEngine
from tests.support.waiting import wait_until
from triggerstream.adapters.sqlite import SqliteLog
from triggerstream.core import projections
from triggerstream.core.events import Cancel, Erase, Failed, Finished, Release, Started, Trigger
from triggerstream.core.ids import InstanceId, Json, TriggerName
from triggerstream.wire.records import NewRecord


def trigger(trigger_name: str, /, **data: Json) -> Trigger:
    return Trigger(name=TriggerName(trigger_name), data=data)


@pytest.fixture(autouse=True)
def three_sessions(engine: RunningEngine) -> None:
    engine.append("a-waits", trigger("module1", x=1))
    engine.append("b-failed", trigger("module1"), trigger("module4"))
    engine.append("c-finished", trigger("module4"), trigger("module1", name="Ada"))
    failing, finishing = engine.commands(2)
    engine.append(
        "b-failed",
        Started(instance=failing.instance, command=failing.id),
        Failed(instance=failing.instance, command=failing.id, error="ValueError: no steps"),
    )
    engine.append(
        "c-finished", Finished(instance=finishing.instance, command=finishing.id, result={"steps": 7})
    )


def test_list_counts_what_waits_runs_failed_and_is_done(cli: Cli) -> None:
    rows = cli("sessions", "list", "--json").rows()
    assert [(row["session"], row["waiting"], row["running"], row["failed"], row["done"]) for row in rows] == [
        ("a-waits", 1, 0, 0, 0),
        ("b-failed", 0, 0, 1, 0),
        ("c-finished", 0, 1, 0, 1),
    ]


def test_list_for_people_is_a_table(cli: Cli) -> None:
    out = cli("sessions", "list").out
    assert "session" in out
    assert all(session in out for session in ("a-waits", "b-failed", "c-finished"))


@pytest.mark.parametrize(
    ("options", "sessions"),
    [
        (["--prefix", "b"], ["b-failed"]),
        (["--status", "unstarted"], ["a-waits"]),
        (["--task", "t_mail"], ["c-finished"]),
        (["--task", "t_process", "--status", "finished"], ["c-finished"]),
        (["--stuck", "1h"], []),
        (["--limit", "0"], ["a-waits", "b-failed", "c-finished"]),
    ],
)
def test_list_can_be_narrowed(cli: Cli, options: list[str], sessions: list[str]) -> None:
    rows = cli("sessions", "list", "--json", *options).rows()
    assert [row["session"] for row in rows] == sessions


def test_list_says_when_there_are_more(cli: Cli) -> None:
    ran = cli("sessions", "list", "--json", "--limit", "2")
    assert len(ran.rows()) == 2
    assert ran.err == "there are more: --limit 0 lists all, --limit 4 twice as many\n"


def test_show_has_status_kwargs_result_and_error(cli: Cli) -> None:
    finished = cli("sessions", "show", "c-finished", "--json").row()["instances"]
    assert finished["t_process#0"]["status"] == "finished"
    assert finished["t_process#0"]["result"] == {"steps": 7}
    assert finished["t_process#0"]["kwargs"] == {"module4": {}, "module1": {"name": "Ada"}}
    assert finished["t_mail#0"]["status"] == "scheduled"
    failed = cli("sessions", "show", "b-failed", "--json").row()["instances"]["t_process#0"]
    assert (failed["status"], failed["error"]) == ("failed", "ValueError: no steps")
    assert "ValueError: no steps" in cli("sessions", "show", "b-failed").out


def test_explain_shows_each_leaf_and_what_is_waited_for(cli: Cli) -> None:
    found = cli("sessions", "explain", "a-waits", "--json").row()
    assert found["waitsFor"] == ["module4"]
    (instance,) = found["tasks"][0]["instances"]
    assert [(leaf["trigger"], leaf["met"]) for leaf in instance["after"]["all"]] == [
        ("module1", True),
        ("module4", False),
    ]
    assert instance["after"]["all"][0]["by"][0]["data"] == {"x": 1}
    assert instance["created"].endswith("Z")


def test_explain_for_people_has_conditions_and_a_timeline(cli: Cli) -> None:
    out = cli("sessions", "explain", "c-finished").out
    for said in (
        "t_process#0 finished",
        "✓ module1",
        "t_mail#0 scheduled",
        "unless unsubscribed",
        "timeline",
        "because of module4 (event 4), module1 (event 5)",
    ):
        assert said in out
    assert "○ module4: not arrived" in cli("sessions", "explain", "a-waits").out


def test_a_session_is_explained_as_it_was(cli: Cli) -> None:
    now = cli("sessions", "explain", "c-finished", "--json").row()
    arrived = [row["offset"] for row in now["timeline"] if row["what"] == "arrived"]
    then = cli("sessions", "explain", "c-finished", "--at", str(arrived[0]), "--json").row()
    assert (then["waitsFor"], then["foldedTo"], then["offset"]) == (["module1"], arrived[0], arrived[0])
    out = cli("sessions", "explain", "c-finished", "--at", str(arrived[0])).out
    assert f"session c-finished, after event {arrived[0]}" in out
    assert "○ module1: not arrived" in out
    ran = cli("sessions", "explain", "c-finished", "--at", "2026-03-01T12:00:00Z")
    assert (ran.status, ran.err) == (
        1,
        "c-finished: no trigger had been fired for it at 2026-03-01T12:00:00Z\n",
    )
    ran = cli("sessions", "explain", "c-finished", "--at", "1", "--at", "2")
    assert (ran.status, ran.err) == (2, "--at: give one place and one moment at most\n")


def test_an_instance_that_ended_is_explained_in_the_past_tense(cli: Cli, engine: RunningEngine) -> None:
    engine.append("a-waits", Cancel(instance=InstanceId("t_process#0"), reason="wrong order", by="ada"))
    out = cli("sessions", "explain", "a-waits").out
    assert "○ module4: had not arrived" in out
    assert "✓ module1" in out


def test_an_instance_that_is_run_again_is_explained_by_the_triggers_that_it_ran_with(
    cli: Cli, engine: RunningEngine
) -> None:
    engine.apply('{"t_process": {"after": ["x"], "run": "app.process"}}')
    for session in ("b-failed", "c-finished"):
        out = cli("sessions", "explain", session).out
        assert ("✓ module1" in out, "✓ module4" in out, "arrived" in out.partition("timeline")[0]) == (
            True,
            True,
            False,
        )


def test_sessions_are_explained_in_the_words_of_an_administrator(cli: Cli, engine: RunningEngine) -> None:
    engine.append("c-finished", trigger("unsubscribed"), trigger("module1", id="again"))
    for session in ("a-waits", "b-failed", "c-finished"):
        for command in ("show", "explain"):
            out = cli("sessions", command, session).out.lower()
            assert [word for word in ("fold", "offset", "partition", "dead letter") if word in out] == []


def test_explain_of_one_task_shows_it_even_without_an_instance(cli: Cli) -> None:
    (task,) = cli("sessions", "explain", "a-waits", "--task", "t_mail", "--json").row()["tasks"]
    assert (task["task"], task["instances"]) == ("t_mail", [])


@pytest.mark.parametrize("command", ["show", "explain"])
def test_a_session_that_is_not_known_is_the_answer_no(cli: Cli, command: str) -> None:
    ran = cli("sessions", command, "nobody")
    assert (ran.status, ran.out, ran.err) == (1, "", "nobody: nothing is known of this session\n")


def test_what_could_steer_a_terminal_is_shown_as_text(cli: Cli, engine: RunningEngine) -> None:
    engine.append("evil\x1b[31m[bold]", trigger("module1", x="\x1b]0;title\x07[/bold]"))
    for arguments in (["list"], ["show", "evil\x1b[31m[bold]"], ["explain", "evil\x1b[31m[bold]"]):
        out = cli("sessions", *arguments).out
        assert "\x1b" not in out
        assert "evil\\u001b[31m[bold]" in out


def test_what_is_not_folded_yet_is_not_said_to_be_nothing(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "unfolded")

    async def append() -> None:
        log = SqliteLog(cli.directory, create=True)
        await log.append([NewRecord(key=b"s", value=b'{"type": "a"}')])
        await log.close()

    asyncio.run(append())
    waits = "1 event is not processed yet"
    for command in ("show", "explain"):
        ran = cli("sessions", command, "s")
        assert (ran.status, ran.err) == (1, f"s: nothing is known of this session yet: {waits}\n")
    for command in ("sessions", "deadletters"):
        ran = cli(command, "list")
        assert (ran.status, ran.err) == (0, f"the list is not complete: {waits}\n")


def test_a_session_that_was_erased_has_no_last_event(cli: Cli, engine: RunningEngine) -> None:
    engine.append("a-waits", Erase())
    assert "a-waits: last event: erased" in cli("sessions", "show", "a-waits").out
    assert "no instance: erased, generation 1" in cli("sessions", "show", "a-waits").out
    out = cli("sessions", "explain", "a-waits").out
    assert "erased, generation 1" in out
    assert "nothing has arrived" not in out
    listed = cli("sessions", "list").out
    assert "erased" in listed
    assert "1970" not in listed
    for command in (("show", "a-waits"), ("explain", "a-waits")):
        assert cli("sessions", *command, "--json").row()["clock"] is None
    first = next(row for row in cli("sessions", "list", "--json").rows() if row["session"] == "a-waits")
    assert first["clock"] is None


def test_a_retry_that_waits_says_until_when_and_the_attempt_before_keeps_its_error(
    cli: Cli, engine: RunningEngine
) -> None:
    tasks = {"t": {"after": ["x"], "run": "app.t", "retry": {"max": 2, "backoff": "1d"}}}
    engine.apply(json.dumps(tasks))
    engine.append("d-delayed", trigger("x"))
    command = engine.commands(3)[-1]
    engine.append(
        "d-delayed", Failed(instance=command.instance, command=command.id, error="OSError: mail is away")
    )
    (task,) = cli("sessions", "explain", "d-delayed", "--json").row()["tasks"]
    due = task["instances"][1]["due"][:23].replace("T", " ").removesuffix("Z")
    out = " ".join(cli("sessions", "explain", "d-delayed").out.split())
    assert f"({due}" in out
    assert "t#1 delayed waits to be tried again (retry 1 of 2); due in 23 h 59 min (" in out
    again = "failed; tried again as t#1 (retry 1 of 2)"
    assert f"reported failed: t#0 {again}" in out
    assert "replay" not in out
    first = out.index(f"t#0 retried {again}")
    assert first < out.index("failed: OSError: mail is away") < out.index("t#1 delayed")
    assert out.index("t#1 delayed") < out.index("retry of t#0")
    shown = " ".join(cli("sessions", "show", "d-delayed").out.split())
    assert "t#0 retried" in shown
    assert "OSError: mail is away; tried again as t#1" in shown


def test_explain_begins_with_what_failed_and_says_one_error_once(cli: Cli, engine: RunningEngine) -> None:
    engine.apply(json.dumps({"t": {"after": ["x"], "run": "app.t", "retry": {"max": 1, "backoff": "1d"}}}))
    engine.append("e", Trigger(name=TriggerName("x"), data={}))
    for number in range(2):
        command = engine.commands(3 + number)[-1]
        failed = Failed(instance=command.instance, command=command.id, error="OSError: mail is away")
        engine.append("e", failed, *([] if number else [Release(instance=InstanceId("t#1"))]))
    out = cli("sessions", "explain", "e").out
    assert out.splitlines()[1] == "├── failed: t#1"
    assert out.count("mail is away") == 1
    assert "failed: the same as t#1\n" in out
    assert [line for line in out.splitlines() if line != line.rstrip()] == []


def test_explain_does_not_call_what_a_bound_prevented_a_failure(cli: Cli, engine: RunningEngine) -> None:
    task = {"after": ["a"], "repeat": {"every": "1d", "max": 1}, "run": "m.t"}
    engine.apply(json.dumps({"$bounds": {"unresolvedInstances": 1}, "t": task}))
    engine.append("s", Trigger(name=TriggerName("a"), data={}))
    out = cli("sessions", "explain", "s").out
    assert "── not repeated: a session holds at most 1 unresolved instances" in out
    assert "failed" not in out


def test_explain_shows_triggers_that_no_task_uses(cli: Cli, engine: RunningEngine) -> None:
    assert engine.directory == cli.directory
    engine.append("s", Trigger(name=TriggerName("modul1"), data={}))
    assert "? modul1  event 9, " in (out := cli("sessions", "explain", "s").out)
    assert "no task uses it; the nearest name is module1" in out


# ---- how far a hand-over has come -----------------------------------------------------------------


def test_explain_says_when_a_command_was_handed_over(cli: Cli) -> None:
    def mail() -> dict[str, Any] | None:
        tasks = cli("sessions", "explain", "c-finished", "--json").row()["tasks"]
        (found,) = next(task["instances"] for task in tasks if task["task"] == "t_mail")
        return found if found["handOver"]["state"] == "handed over" else None

    found = wait_until(mail, what="the engine notes a hand-over within a second")
    assert found["handOver"]["at"] >= found["decided"]
    assert found["says"] == "was handed over to Celery; no worker has reported yet"
    assert "advice" not in found
    text = " ".join(cli("sessions", "explain", "c-finished").out.split())
    assert "was handed over to Celery; no worker has reported yet (handed over at 20" in text


def test_after_a_long_silence_explain_and_the_list_of_the_stuck_say_what_to_look_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck() -> Ran | None:
        ran = cli("sessions", "list", "--stuck", "1s", "--json")
        return ran if ran.rows() else None

    assert wait_until(stuck).err == ""
    monkeypatch.setattr(projections, "SILENT_US", 0)
    ran = cli("sessions", "list", "--stuck", "1s", "--json")
    assert [row["session"] for row in ran.rows()] == ["c-finished"]
    assert "`triggerstream sessions explain SESSION` says what to look for" in ran.err
    text = " ".join(cli("sessions", "explain", "c-finished").out.split())
    assert "calls triggerstream.celery.install" in text or "whether the bridge runs" in text
    assert cli("sessions", "list").err == ""


def test_sessions_are_listed_by_the_due_time_of_their_next_timer(cli: Cli, engine: RunningEngine) -> None:
    deadlines = {"t": "30d", "u": "1d", "v": "2d"}
    engine.apply(
        json.dumps(
            {n: {"after": [f"{n}1", f"{n}2"], "deadline": d, "run": "app.t"} for n, d in deadlines.items()}
        )
    )
    for name in deadlines:
        engine.append(f"due-{name}", trigger(f"{name}1"))
    engine.append("due-never", trigger("x"))
    rows = [json.loads(line) for line in cli("sessions", "list", "--due", "3d", "--json").out.splitlines()]
    assert [row["session"] for row in rows] == ["due-u", "due-v"]
    out = " ".join(cli("sessions", "list", "--due", "40d", "--limit", "2").out.split())
    assert out.index("due-u") < out.index("due-v")
    assert "in 23 h 59 min (2" in out
    assert "due-t" not in out
    assert cli("sessions", "list", "--overdue").out == "no session matches\n"
    shown = " ".join(cli("sessions", "show", "due-u").out.split())
    assert "expires in 23 h 59 min (2" in shown
