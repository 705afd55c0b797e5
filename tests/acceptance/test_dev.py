"""`dev` with real processes: engine, broker, worker, intake, and how they end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.dev import TRIGGERSTREAM, Project, alive, dev, is_celery, wait_gone
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.celery]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def post(url: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return answer.status, json.loads(answer.read())


def settled(project: Project, session: str, status: str) -> dict[str, Any]:
    """The session's instance, once it has that status."""

    def found() -> dict[str, Any] | None:
        ran = project.run("sessions", "show", session, "--json")
        if ran.returncode:
            return None
        instance: dict[str, Any] = json.loads(ran.stdout)["instances"].get("t_processStepData#0", {})
        return instance if instance.get("status") == status else None

    return wait_until(found, within_s=60, what=f"{session} is not {status}")


def test_what_is_posted_and_fired_runs_the_task_once(project: Project) -> None:
    with dev(project) as running:
        url = running.url
        events = [
            {"session": "posted", "type": "module4Received", "data": {"steps": [4, 5]}},
            {"session": "other", "type": "module4Received", "data": {"steps": [1]}},
        ]
        assert post(f"{url}/v1/events", events) == (202, {"accepted": 2})
        assert post(f"{url}/v1/sessions/posted/triggers/module1Received", {"participant": "Ada"})[0] == 202
        project.fire_both("fired")
        finished = running.wait_for_lines("finished", 2)
        assert {line["session"] for line in finished} == {"posted", "fired"}
        assert {line["result"]["steps"] for line in finished} == {9, 3}
        assert [line["because"] for line in running.lines_of("decided")] == [
            ["module4Received", "module1Received"]
        ] * 2
        with urllib.request.urlopen(f"{url}/v1/sessions/other", timeout=20) as answer:  # noqa: S310 - our own
            assert json.loads(answer.read())["waitsFor"] == ["module1Received"]
        assert running.stop() == 0
    assert sorted(project.ran()) == ["fired", "posted"]


def test_the_example_fires_what_its_task_waits_for(project: Project) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "survey" / "fire.py"
    with dev(project) as running:
        subprocess.run([sys.executable, example, running.url], check=True, timeout=60)
        (finished,) = running.wait_for_lines("finished")
        assert finished["result"] == {"participant": "Ada", "steps": 20204, "device": "unknown"}
    assert project.ran() == ["participant-7"]


def test_it_goes_on_where_it_was_after_a_kill(project: Project) -> None:
    with dev(project) as running:
        assert running.url
        project.fire("s", "module4Received", "steps=[1]")
        running.kill()
    with dev(project) as running:
        running.wait_for_lines("ready")
        project.fire("s", "module1Received", "participant=Ada")
        running.wait_for_lines("finished")
    assert project.ran() == ["s"]


LEAVING_OUT = """{
  "$bounds": {"unresolvedInstances": 2},
  "t_open": {"after": ["module4Received", "never"], "run": "my_app.tasks.ProcessStepData"},
  "t_page": {
    "after": ["module4Received"],
    "andEvery": "module1Received",
    "run": "my_app.tasks.ProcessStepData",
    "withParams": {"module4Received": {"device": "unknown"}},
  },
  "t_x": {"after": ["close"], "andEvery": "t_page", "run": "my_app.tasks.ProcessStepData"},
  "t_y": {"after": ["close"], "andEvery": "t_page", "run": "my_app.tasks.ProcessStepData"},
}"""


def test_a_task_whose_followers_a_bound_leaves_out_runs_once_however_often_it_is_restarted(
    project: Project,
) -> None:
    project.tasks.write_text(LEAVING_OUT)
    for start in range(3):
        with dev(project) as running:
            running.wait_for_lines("ready")
            if start == 0:
                project.fire_both("s")
            instances = wait_until(
                lambda: finished_page(project), within_s=60, what="t_page#0 is not finished"
            )
            assert instances == {"t_open#0": "unstarted", "t_page#0": "finished"}
            # What the session does not need ends before a task that was handed over again would: both
            # go through one worker, one after the other.
            other = f"other{start}"
            project.fire_both(other)
            wait_until(lambda name=other: name in project.ran(), within_s=60, what=other)  # type: ignore[misc]
            assert running.stop() == 0
    assert project.ran().count("s") == 1
    letters = [json.loads(line) for line in project.run("deadletters", "list", "--json").stdout.splitlines()]
    left_out = [letter for letter in letters if letter["session"] == "s"]
    assert [(letter["leftOut"], letter["value"]["type"]) for letter in left_out] == [(0, "t_page")]


def finished_page(project: Project) -> dict[str, str] | None:
    """The statuses of session s, once its first page is finished."""
    ran = project.run("sessions", "show", "s", "--json")
    if ran.returncode:
        return None
    found = {name: one["status"] for name, one in json.loads(ran.stdout)["instances"].items()}
    return found if found.get("t_page#0") == "finished" else None


def test_what_is_fired_while_nothing_runs_is_not_lost(project: Project) -> None:
    with dev(project) as running:
        running.wait_for_lines("ready")
        running.stop()
    project.fire_both("s")
    with dev(project) as running:
        running.wait_for_lines("finished")
    assert project.ran() == ["s"]


def test_a_kill_takes_every_process_with_it(project: Project) -> None:
    with dev(project) as running:
        running.wait_for_lines("ready")
        project.fire_both("s")
        running.wait_for_lines("finished")
        below = running.below()
        # Two watchdogs, the broker, the worker's main process and its two pool processes.
        assert len(below) >= 6
        running.kill()
        wait_gone(below)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(project: Project, number: int) -> None:
    with dev(project) as running:
        running.wait_for_lines("ready")
        below = running.below()
        assert running.stop(number) == 0
        assert alive(below) == []


def test_a_client_that_hangs_on_does_not_keep_it_from_ending(project: Project) -> None:
    with dev(project, str(project.tasks)) as running:
        url = urlsplit(running.url)
        with socket.create_connection((url.hostname, url.port)) as half:
            half.sendall(
                b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            )
            assert running.stop() == 0


def test_a_signal_while_it_starts_ends_it_too(project: Project) -> None:
    with dev(project) as running:
        below = wait_until(running.below, within_s=30, what="no child was started")
        assert running.stop() == 0
        wait_gone(below)


def test_ctrl_c_at_a_terminal_lets_the_running_task_finish(project: Project) -> None:
    module = project.place / "my_app" / "tasks.py"
    source = module.read_text()
    slow = source.replace(
        "    command = current()\n", "    command = current()\n    import time; time.sleep(1)\n"
    )
    assert slow != source
    module.write_text(slow)
    with dev(project) as running:
        running.wait_for_lines("ready")
        project.fire_both("s")
        running.wait_for_lines("started")
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.process.wait(60) == 0
        assert len(running.lines_of("finished")) == 1
    assert project.ran() == ["s"]


def test_a_second_dev_on_the_same_directory_is_refused(project: Project) -> None:
    with dev(project) as running:
        running.wait_for_lines("ready")
        second = project.run("dev", str(project.tasks), "--celery", "my_app.tasks:app", "--port", "0")
        assert (second.returncode, second.stdout) == (2, "")
        assert str(project.place / ".triggerstream") in second.stderr
        assert second.stderr.count("\n") == 1
        project.fire_both("s")
        running.wait_for_lines("finished")


def test_a_changed_file_is_applied_and_a_bad_one_changes_nothing(project: Project) -> None:
    def replace(text: str) -> None:
        """As editors do: a new file takes the old one's name."""
        new = project.tasks.with_suffix(".new")
        new.write_text(text)
        new.rename(project.tasks)

    good = project.tasks.read_text()
    with dev(project, str(project.tasks)) as running:
        running.wait_for_lines("ready")
        replace('{\n  "a": {"after": "x", "run": "r"},\n  "b": {"unles": [], "run": 1}\n}')
        (refused,) = running.wait_for_lines("refused")
        found = [(finding["file"], finding["line"]) for finding in refused["findings"]]
        assert len(found) >= 3
        assert set(found) == {(str(project.tasks), 2), (str(project.tasks), 3)}
        project.fire_both("s")
        assert running.wait_for_lines("decided")[0]["instance"] == "t_processStepData#0"
        project.tasks.unlink()
        running.wait_for_lines("refused", 2)
        replace(good)
        assert running.wait_for_lines("restored")[0]["tasks"] == 1
        replace(good.replace("t_processStepData", "t_renamed"))
        assert running.wait_for_lines("applied")[0]["tasks"] == 1
        project.fire_both("t")
        assert running.wait_for_lines("decided", 2)[1]["instance"] == "t_renamed#0"
        project.tasks.write_text(project.tasks.read_text() + "// the same tasks\n")
        running.wait_for_lines("applied", 2)


def test_a_bad_file_at_the_start_is_told_whole(project: Project) -> None:
    project.tasks.write_text('{\n  "a": {"after": "x", "run": "r"},\n  "b": {"unles": [], "run": 1}\n}')
    ran = project.run("dev", str(project.tasks))
    assert (ran.returncode, ran.stdout) == (2, "")
    lines = ran.stderr.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith(f"{project.tasks}:") for line in lines)
    assert not (project.place / ".triggerstream").exists()


def test_without_a_worker_commands_are_kept_for_the_next_that_has_one(project: Project) -> None:
    with dev(project, str(project.tasks)) as running:
        running.wait_for_lines("ready")
        project.fire_both("s")
        running.wait_for_lines("decided")
        assert running.stop() == 0
        assert running.errors().count("\n") == 1  # that it stops
    assert project.ran() == []
    with dev(project) as running:
        running.wait_for_lines("finished")
    assert project.ran() == ["s"]


def test_an_app_that_does_not_install_anything_is_taken_care_of(project: Project) -> None:
    (project.place / "plain.py").write_text(
        "from celery import Celery\n"
        "app = Celery('plain')\n"
        "@app.task(name='my_app.tasks.ProcessStepData')\n"
        "def process(**received):\n"
        "    return sorted(received)\n"
    )
    with dev(project, str(project.tasks), "--celery", "plain") as running:
        running.wait_for_lines("ready")
        project.fire_both("s")
        (finished,) = running.wait_for_lines("finished")
        assert finished["result"] == ["module1Received", "module4Received"]


def test_a_queue_that_the_file_names_is_consumed_also_when_it_is_new(project: Project) -> None:
    text = project.tasks.read_text()
    with dev(project) as running:
        running.wait_for_lines("ready")
        project.tasks.write_text(text.replace('"run":', '"queue": "slow", "run":'))
        running.wait_for_lines("applied")
        project.fire_both("s")
        running.wait_for_lines("finished")
    assert project.ran() == ["s"]


ROUTED = """
from celery import Celery

app = Celery("routed")
app.conf.task_routes = {"routed.*": {"queue": "by-route"}}


@app.task(name="routed.process")
def process(module1Received, module4Received):
    raise ValueError("no steps")
"""


def test_mistakes_are_found_when_a_file_is_applied_and_routed_queues_are_consumed(project: Project) -> None:
    (project.place / "routed.py").write_text(ROUTED)
    task = '{"t": {"after": ["module1Received", "module4Received"], "run": "routed.process"}}'
    project.tasks.write_text(task.replace("routed.process", "routed.proces"))
    with dev(project, str(project.tasks), "--celery", "routed") as running:
        (warned,) = running.wait_for_lines("warnings")
        (found,) = warned["findings"]
        assert (found["code"], found["path"]) == ("unknown-task", "/t/run")
        meant = "there is no task `routed.proces` in the app routed: did you mean `routed.process`?"
        assert found["message"] == meant
        project.tasks.write_text(task.replace('"module4Received"]', '"module4"]'))
        (found, lacking) = running.wait_for_lines("warnings", 2)[1]["findings"]
        assert (found["code"], found["path"]) == ("unexpected-argument", "/t/after/1")
        assert (lacking["code"], lacking["path"]) == ("missing-argument", "/t/run")
        project.tasks.write_text(task)
        running.wait_for_lines("applied", 2)
        project.fire_both("s")
        (failed,) = running.wait_for_lines("failed")
        assert failed["error"] == "ValueError: no steps"
        assert len(running.lines_of("warnings")) == 2
        wait_until(lambda: "ValueError: no steps" in running.errors(), within_s=30, what="the worker's line")
    traceback = [line for line in running.errors().splitlines() if " File " in line]
    assert traceback
    assert all("routed.py" in line for line in traceback), "the application's frames only"


def test_a_worker_that_dies_is_started_again(project: Project) -> None:
    with dev(project) as running:
        running.wait_for_lines("ready")
        project.fire_both("before")
        running.wait_for_lines("finished")
        main = min(pid for pid in running.below() if is_celery(_command(pid)))
        os.kill(main, signal.SIGKILL)
        project.fire_both("after")
        running.wait_for_lines("finished", 2)
    assert project.ran() == ["before", "after"]


def _command(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    command = path.read_text(errors="replace") if path.exists() else ""
    return "" if "watchdog.py" in command else command


@pytest.mark.parametrize("which", ["valkey-server", "triggerstream.cli.dev.celery_app"])
def test_what_is_below_a_killed_watchdog_ends_too(project: Project, which: str) -> None:
    with dev(project) as running:
        running.wait_for_lines("ready")
        project.fire_both("s")
        running.wait_for_lines("finished")
        below = [
            pid
            for pid in running.below()
            if which in _command(pid) or (which != "valkey-server" and is_celery(_command(pid)))
        ]
        assert below
        for pid in running.below():
            command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
            if "watchdog.py" in command and which in command:
                os.kill(pid, signal.SIGKILL)
        wait_gone(below)


def test_an_app_that_cannot_be_loaded_is_one_line(project: Project) -> None:
    (project.place / "broken.py").write_text("\n\n1 / 0\n")
    for spec, says in {
        "nowhere.app": "ModuleNotFoundError: No module named 'nowhere'",
        "broken": f"ZeroDivisionError: division by zero ({project.place}/broken.py:3)",
        "my_app.tasks:nope": "has no Celery app named nope",
        "json": "has no Celery app named `app` or `celery`",
    }.items():
        ran = project.run("dev", str(project.tasks), "--celery", spec)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"--celery {spec}: ")
        assert says in ran.stderr
        assert ran.stderr.count("\n") == 1
    assert not (project.place / ".triggerstream").exists()


def test_an_app_whose_settings_can_lose_a_task_is_refused_with_the_line_to_add(project: Project) -> None:
    module = project.place / "my_app" / "tasks.py"
    module.write_text(module.read_text().replace("    task_acks_late=True,\n", ""))
    ran = project.run("dev", str(project.tasks), "--celery", "my_app.tasks:app", "--port", "0")
    assert ran.returncode == 2
    assert "app.conf.update(task_acks_late=True)" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr


def test_a_port_that_is_taken_is_one_line(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = project.run("dev", str(project.tasks), "--port", port)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"--port {port}: ")
    assert ran.stderr.count("\n") == 1


def test_its_banner_says_what_runs_and_what_to_do_next(project: Project) -> None:
    out = project.place / "banner.out"
    with out.open("wb") as stream:
        process = subprocess.Popen(
            [TRIGGERSTREAM, "dev", "survey.json", "--port", "0"],
            cwd=project.place,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "Press Ctrl-C to stop dev" in out.read_text(), within_s=30, what=out.read_text)
        project.fire_both("s")
        wait_until(lambda: "t_processStepData#0  decided to run" in out.read_text(), what=out.read_text)
    finally:
        process.terminate()
        process.wait(30)
    banner = out.read_text()
    assert "intake   http://127.0.0.1:" in banner
    assert "pages    http://127.0.0.1:" in banner
    assert "try      triggerstream fire my-session module1Received --at .triggerstream" in banner
