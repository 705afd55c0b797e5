"""What a real worker reports about ordinary tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.adapters.celery.conftest import Farm, command
from tests.support.waiting import eventually
from triggerstream.adapters.celery.delivery import HEADER, header_of

pytestmark = pytest.mark.celery


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("triggerstream.task.") for event in events]


async def test_an_ordinary_task_is_started_and_finished_with_its_result(shared: Farm) -> None:
    sent = command("echo", score=3, attempt=2)
    events = await shared.run(sent)
    assert types(events) == ["started", "finished"]
    assert events[1]["data"] == {
        "instance": sent.instance,
        "command": sent.id,
        "result": {
            "kwargs": {"go": {"score": 3}},
            "session": sent.session,
            "task": sent.task,
            "instance": sent.instance,
            "command": sent.id,
            "attempt": 2,
            "retries": 0,
            "causes": [["go", 7, "e1"], ["go", 9, None]],
            "trigger_kwargs": {"go": {"score": 3}},
        },
    }


async def test_celery_sees_the_command_id_and_its_retries(shared: Farm) -> None:
    sent = command("request_of", retries=2)
    events = await shared.run(sent)
    assert events[-1]["data"]["result"] == {"id": sent.id, "retries": 2}


async def test_a_task_that_raises_failed_with_type_message_and_traceback(shared: Farm) -> None:
    events = await shared.run(command("fail"))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["error"] == "ValueError: no good"
    trace = events[1]["data"]["metadata"]["traceback"]
    assert 'raise ValueError("no good")' in trace
    files = [line.split('"')[1] for line in trace.splitlines() if line.startswith("  File ")]
    assert [Path(file).name for file in files] == ["workerapp.py"], "neither Celery's frames nor ours"


@pytest.mark.parametrize("kind", ["object", "nan", "big", "deep", "long", "surrogate", "key", "unreadable"])
async def test_a_result_that_no_event_can_hold_is_a_failure(shared: Farm, kind: str) -> None:
    events = await shared.run(command("odd", kind=kind))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["error"].startswith("the task ended, but its result cannot be reported: ")
    assert events[1]["data"]["reason"] == "result not reportable"


async def test_a_member_of_a_text_enum_arrives_as_its_value(shared: Farm) -> None:
    events = await shared.run(command("odd", kind="enum"))
    assert events[-1]["data"]["result"] == {"size": "s"}


@pytest.mark.parametrize("kind", ["signature", "chain", "group", "chord", "within"])
async def test_signature_that_was_not_applied_is_a_failure_that_says_what_to_do(
    shared: Farm, kind: str
) -> None:
    """It is a dict, so it would count as a result; and nothing of it would ever run."""
    events = await shared.run(command("canvas", kind=kind))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["reason"] == "result not reportable"
    assert "nothing of it ran: call its apply_async()" in events[1]["data"]["error"]


@pytest.mark.parametrize("kind", ["result", "group result"])
async def test_result_object_is_a_failure_that_says_what_to_do_and_its_tasks_run(
    shared: Farm, kind: str
) -> None:
    events = await shared.run(command("canvas", kind=kind))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["reason"] == "result not reportable"
    assert "use its id (`result.id`)" in events[1]["data"]["error"]
    await shared.appears(f"sub-{kind}")


async def test_celerys_own_retries_are_one_command_with_one_outcome(shared: Farm) -> None:
    events = await shared.run(command("celery_retries", name="r1", times=2))
    assert types(events) == ["started", "finished"]
    assert events[1]["data"]["result"] == 2
    assert len(await shared.appears("r1", lines=3)) == 3


async def test_celerys_own_retries_end_in_one_failure(shared: Farm) -> None:
    events = await shared.run(command("celery_gives_up", name="r2"))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["error"] == "ValueError: again and again"
    assert len(await shared.appears("r2", lines=2)) == 2


async def test_automatic_retries_are_one_command_with_one_outcome(shared: Farm) -> None:
    events = await shared.run(command("celery_autoretries", name="r3", times=2))
    assert types(events) == ["started", "finished"]


async def test_a_task_that_ignores_itself_is_skipped(shared: Farm) -> None:
    events = await shared.run(command("ignores"))
    assert types(events) == ["started", "skipped"]
    assert events[1]["data"]["metadata"] == {"reason": "Ignore: nothing to see"}


async def test_a_rejected_message_fails(shared: Farm) -> None:
    events = await shared.run(command("rejects", name="x1", requeue=False))
    assert types(events) == ["started", "failed"]
    assert "Reject" in events[1]["data"]["error"]


async def test_a_requeued_message_runs_again_and_has_one_outcome(shared: Farm) -> None:
    """However often it asks for that: it has lost no process."""
    events = await shared.run(command("rejects", name="x2", requeue=True, times=4), within_s=120)
    assert types(events) == ["started", "finished"]
    assert len(await shared.appears("x2", lines=5)) == 5


async def test_the_soft_time_limit_is_a_failure(shared: Farm) -> None:
    events = await shared.run(command("too_slow_soft"))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["error"].startswith("SoftTimeLimitExceeded")


async def test_the_hard_time_limit_is_a_failure(shared: Farm) -> None:
    events = await shared.run(command("too_slow_hard"))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["error"].startswith("TimeLimitExceeded")
    assert events[1]["data"]["reason"] == "time limit"


async def test_what_the_class_of_a_task_makes_of_its_call_is_the_result(shared: Farm) -> None:
    events = await shared.run(command("called", a=1))
    assert events[-1]["data"]["result"] == {"called": {"go": {"a": 1}}}


async def test_an_error_before_the_body_is_a_failure(shared: Farm) -> None:
    events = await shared.run(command("never_begun"))
    assert types(events) == ["failed"]
    assert events[0]["data"]["error"] == "RuntimeError: not even begun"
    assert not (shared.home / "never").exists()


async def test_an_unknown_task_is_a_failure(shared: Farm) -> None:
    events = await shared.run(command("no_such_task"))
    assert types(events) == ["failed"]
    assert "no_such_task" in events[0]["data"]["error"]
    assert events[0]["data"]["reason"] == "task unknown"


async def test_a_message_that_is_no_task_is_a_failure(shared: Farm) -> None:
    sent = command("echo")
    headers = {HEADER: header_of(sent), "eta": "tomorrow"}
    shared.app.send_task(sent.run, task_id=sent.id, kwargs=sent.kwargs, headers=headers)
    events = await shared.outcome(sent)
    assert types(events) == ["failed"]
    assert events[0]["data"]["error"].startswith("task_rejected: invalid ETA")
    assert events[0]["data"]["reason"] == "message rejected"


async def test_a_lost_child_process_has_its_task_run_again_and_reports_no_failure(shared: Farm) -> None:
    events = await shared.run(command("killed", name="k1", times=2))
    assert types(events) == ["started", "started", "started", "finished"]
    assert len({event["pid"] for event in events[:3]}) == 3


async def test_other_tasks_are_left_alone(shared: Farm) -> None:
    before = shared.log.events
    shared.app.send_task("tests.adapters.celery.workerapp.outside")
    await eventually((shared.home / "outside").exists, what=shared.said)
    assert (shared.home / "outside").read_text() == "None"
    assert before(None) == []  # type: ignore[arg-type]  # no session at all


async def test_trigger_task_skips_itself_with_metadata(shared: Farm) -> None:
    events = await shared.run(command("skips"))
    assert types(events) == ["started", "skipped"]
    assert events[1]["data"]["metadata"] == {}
    events = await shared.run(command("skips", why="kwargs of the trigger"))
    assert events[1]["data"]["metadata"] == {"why": "kwargs of the trigger"}


async def test_trigger_task_asks_to_be_run_again(shared: Farm) -> None:
    for retries in (0, 1):
        events = await shared.run(command("retries", times=2, retries=retries))
        assert types(events) == ["started", "retried"]
        assert events[1]["data"]["after"] == 1.5
        assert events[1]["data"]["kwargs"] == {"go": {"times": 2, "again": True}}
    events = await shared.run(command("retries", times=2, retries=2))
    assert types(events) == ["started", "finished"]
    assert events[1]["data"]["result"] == 2


async def test_trigger_task_that_asks_too_often_failed(shared: Farm) -> None:
    events = await shared.run(command("retries", times=9, retries=2))
    assert types(events) == ["started", "failed"]
    assert events[1]["data"]["error"].startswith("MaxRetriesExceeded")


async def test_trigger_task_fires_the_same_events_when_it_is_run_again(shared: Farm) -> None:
    events = await shared.run(command("fires", name="f1", times=1))
    fired = [(e["type"], e["source"], e["id"], e["data"]) for e in events if "source" in e]
    assert len(fired) == 6
    assert fired[:3] == fired[3:]
    assert len({(source, id_) for _, source, id_, _ in fired}) == 3
    assert [data for _, _, _, data in fired[:3]] == [{"percent": 50}, {"percent": 100}, {}]
    assert "cannot fire" in events[-1]["data"]["result"]


async def test_a_header_of_a_wrong_form_has_the_message_refused_and_the_worker_goes_on(shared: Farm) -> None:
    sent = command("echo")
    wrong: tuple[dict[str, object], ...] = (
        {HEADER: {**header_of(sent), "causes": 5}},
        {HEADER: {**header_of(sent), "session": "\ud800"}},
        {HEADER: header_of(sent), "timelimit": 5},
        {HEADER: "text"},
    )
    for headers in wrong:
        shared.app.send_task(sent.run, task_id=sent.id, kwargs=sent.kwargs, headers=headers)
    after = command("echo")
    assert types(await shared.run(after)) == ["started", "finished"]
    assert "header triggerstream: /causes: must be an array" in shared.said()
    assert "header triggerstream: " in shared.said()
