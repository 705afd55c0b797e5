"""The projects of `examples/` in which time decides, with a real worker: their days are seconds here."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.dev import Dev, Project, dev
from tests.support.waiting import wait_until
from triggerstream.wire.instants import parse_instant

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.celery]


def project_of(name: str, place: Path, durations: Mapping[str, str]) -> Project:
    """The project ``name``, with other durations in its tasks file."""
    project = Project(place, EXAMPLES / name)
    text = project.tasks.read_text()
    for long, short in durations.items():
        assert f'"{long}"' in text
        text = text.replace(f'"{long}"', f'"{short}"')
    project.tasks.write_text(text)
    return project


def fire(project: Project, running: Dev) -> None:
    """Run the project's `fire.py`."""
    subprocess.run([sys.executable, project.place / "fire.py", running.url], check=True, timeout=60)


def done_in(project: Project, session: str) -> list[dict[str, Any]]:
    """The notes of the tasks for a session, in order."""
    lines = [line for line in project.results() if line["session"] == session]
    return [{name: value for name, value in line.items() if name != "session"} for line in lines]


def wait_for(project: Project, session: str, did: str, count: int = 1) -> None:
    """Wait until tasks have noted this for a session."""

    def found() -> bool:
        return [line["did"] for line in done_in(project, session)].count(did) >= count

    wait_until(found, within_s=60, what=lambda: f"{session} {did}: {project.results()}")


def decided_us(running: Dev, session: str, instance: str) -> int:
    """When an instance was decided."""
    (line,) = [
        line
        for line in running.lines_of("decided")
        if (line["session"], line["instance"]) == (session, instance)
    ]
    return parse_instant(line["time"])


def test_an_order_is_cancelled_after_a_deadline_that_became_shorter_and_a_late_payment_given_back(
    tmp_path: Path,
) -> None:
    project = project_of("order", tmp_path, {})
    with dev(project, str(project.tasks), "--celery", "shop.tasks:app") as running:
        fire(project, running)
        wait_for(project, "order-1", "ship")
        shown = project.run("sessions", "explain", "order-2")
        assert "waits for orderPaid" in shown.stdout, shown.stdout + shown.stderr
        project.tasks.write_text(project.tasks.read_text().replace('"deadline": "1d"', '"deadline": "1s"'))
        wait_for(project, "order-2", "cancel")
        (cancelled,) = [one for one in running.lines_of("decided") if one["instance"] == "t_cancel#0"]
        assert cancelled["because"] == ["t_ship.timeout"]
        project.fire("order-2", "orderPaid", "amount=20")
        wait_for(project, "order-2", "refund")
        assert running.stop() == 0
    assert done_in(project, "order-1") == [{"did": "ship", "item": "book", "amount": 30}]
    assert done_in(project, "order-2") == [
        {"did": "cancel", "arrived": ["orderPlaced"]},
        {"did": "refund", "amount": 20, "cancelled": True},
    ]


def test_a_deadline_that_passes_while_nothing_runs_cancels_once_and_as_of_its_time(tmp_path: Path) -> None:
    project = project_of("order", tmp_path, {"1d": "4s"})
    arguments = (str(project.tasks), "--celery", "shop.tasks:app")
    with dev(project, *arguments) as running:
        assert running.url
        project.fire("order-3", "orderPlaced", "item=ink")
        due = time.time() + 4
        running.kill()
    wait_until(lambda: time.time() > due, within_s=20)
    restarted = time.time()
    with dev(project, *arguments) as running:
        wait_for(project, "order-3", "cancel")
        assert decided_us(running, "order-3", "t_cancel#0") <= due * 1_000_000 < restarted * 1_000_000
        project.fire("order-3", "orderPaid", "amount=5")
        wait_for(project, "order-3", "refund")
        assert running.stop() == 0
    assert [line["did"] for line in done_in(project, "order-3")] == ["cancel", "refund"]


def test_a_contract_that_one_person_approves_twice_is_reminded_of_and_escalated(tmp_path: Path) -> None:
    project = project_of("approval", tmp_path, {"1d": "1s", "7d": "7s"})
    with dev(project, str(project.tasks), "--celery", "contracts.tasks:app") as running:
        fire(project, running)
        wait_for(project, "c1", "sign")
        wait_for(project, "c2", "escalate")
        wait_for(project, "c2", "remind", 6)
        times = [decided_us(running, "c2", f"t_remind#{number}") for number in range(6)]
        times.append(decided_us(running, "c2", "t_escalate#0"))
        assert running.stop() == 0
    assert [later - times[0] for later in times] == [second * 1_000_000 for second in range(7)]
    signed = [line for line in done_in(project, "c1") if line["did"] != "remind"]  # the worker may be slow
    assert signed == [{"did": "sign", "title": "lease", "by": ["ann", "bob"]}]
    others = [line for line in done_in(project, "c2") if line["did"] != "remind"]
    assert others == [{"did": "escalate", "by": ["ann"]}]
    assert done_in(project, "c2").count({"did": "remind", "title": "loan"}) == 6


def test_four_files_are_processed_at_the_deadline_and_later_ones_added(tmp_path: Path) -> None:
    project = project_of("nightly", tmp_path, {"6h": "5s"})
    acme, bolt = "acme/2026-03-01", "bolt/2026-03-01"
    with dev(project, str(project.tasks), "--celery", "batch.tasks:app") as running:
        fire(project, running)
        wait_for(project, acme, "process")
        wait_for(project, bolt, "process some")
        project.fire(bolt, "fileArrived", "name=a")
        wait_for(project, bolt, "leave out")
        project.fire(bolt, "fileArrived", "name=e")
        wait_for(project, bolt, "add")
        assert running.stop() == 0
    assert done_in(project, acme) == [{"did": "process", "files": ["a", "b", "c", "d", "e"]}]
    assert done_in(project, bolt) == [
        {"did": "process some", "files": ["a", "b", "c", "d"], "missing": 1},
        {"did": "leave out", "file": "a"},
        {"did": "add", "file": "e"},
    ]
