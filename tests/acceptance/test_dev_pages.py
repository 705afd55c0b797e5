"""`triggerstream dev` shows what it knows, and its index outlasts it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support.dev import Dev, Project, dev
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def asked(running: Dev, path: str) -> Any:  # noqa: ANN401 - JSON, looked into by the test
    with urlopen(f"{running.url}{path}", timeout=60) as answer:  # noqa: S310 - http, as dev says
        return json.load(answer)


def waiting(running: Dev) -> list[str] | None:
    """The sessions that wait for module4; None while the index is being built."""
    found = asked(running, "/v1/sessions?waitsFor=module4Received&status=unstarted")
    return [row["session"] for row in found["sessions"]] if found["complete"] else None


def stamps(project: Project) -> list[str]:
    """The stamp with which the index was closed."""
    index = project.place / ".triggerstream" / "index.db"
    connection = sqlite3.connect(f"{index.as_uri()}?mode=ro", uri=True)
    try:
        return [text for (text,) in connection.execute("SELECT text FROM stamp")]
    finally:
        connection.close()


def test_pages_are_where_events_are_taken_and_find_sessions_after_every_end(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with dev(project, str(project.tasks)) as running:
        url = running.url
        project.fire("42", "module1Received", "participant=Ada")
        wait_until(lambda: waiting(running) == ["42"])
        with urlopen(f"{url}/sessions/42", timeout=60) as answer:  # noqa: S310 - http, as dev says
            assert "waits for" in answer.read().decode()
        assert running.stop() == 0
    (stamp,) = stamps(project)
    with dev(project, str(project.tasks)) as running:
        assert wait_until(lambda: waiting(running)) == ["42"]
        assert stamps(project) == [], "one that is in use has no stamp"
        project.fire("43", "module1Received")
        wait_until(lambda: waiting(running) == ["42", "43"])
        running.kill()
    with dev(project, str(project.tasks)) as running:
        wait_until(lambda: waiting(running) == ["42", "43"])
        assert running.stop() == 0
    assert stamps(project) != [stamp]
