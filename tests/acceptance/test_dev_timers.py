"""Timers in real seconds with a real Celery worker: `dev` is killed with -9 before they are due."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from tests.acceptance.crashing.table import effects, metadata
from tests.acceptance.test_dev_crashes import Dev
from tests.support.waiting import wait_until
from triggerstream import SyncClient
from triggerstream.core.ids import SessionId, TaskName, command_id
from triggerstream.core.state import Instance, SessionState
from triggerstream.settings import DEFAULT_APP
from triggerstream.wire import state

SECOND = 1_000_000
RUN = "crashing.take_effect"
SESSIONS = [SessionId(f"s{number}") for number in range(10)]
TASKS = f"""{{
  "t_late": {{"after": ["a", "never"], "deadline": "2s", "run": "{RUN}"}},
  "t_told": {{"after": [{{"trigger": "t_late.timeout", "as": "late"}}], "run": "{RUN}"}},
  "t_wait": {{"after": ["a"], "delay": "3s", "run": "{RUN}"}},
  "t_round": {{"after": ["a"], "repeat": {{"every": "2s", "max": 2}}, "run": "{RUN}"}},
}}"""
DECIDED = [("t_told", 0), ("t_wait", 0), ("t_round", 0), ("t_round", 1), ("t_round", 2)]


def took_effect(directory: Path) -> list[tuple[str, str]]:
    """(session, command) of each effect."""
    engine = create_engine(f"sqlite:///{directory}/effects.db")
    try:
        with engine.connect() as connection:
            rows = connection.execute(select(effects.c.session, effects.c.command)).all()
            return sorted((session, command) for session, command in rows)
    finally:
        engine.dispose()


def stored(database: Path) -> dict[str, SessionState]:
    """The states of all sessions."""
    connection = sqlite3.connect(database)
    try:
        rows = connection.execute("SELECT id, state FROM sessions").fetchall()
    finally:
        connection.close()
    return {session: state.decode(value) for session, value in rows}


def instance(known: SessionState, task: str, number: int) -> Instance:
    """One instance of a session."""
    found = known.tasks[TaskName(task)].find(number)
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.celery
def test_timers_due_while_dev_is_dead_take_effect_once_and_at_their_due_times(tmp_path: Path) -> None:
    (tmp_path / "tasks.json").write_text(TASKS)
    (tmp_path / "state").mkdir()
    engine = create_engine(f"sqlite:///{tmp_path}/effects.db")
    metadata.create_all(engine)
    engine.dispose()
    expected = sorted(
        (session, command_id(DEFAULT_APP, session, generation=0, task=TaskName(task), number=number))
        for session in SESSIONS
        for task, number in DECIDED
    )
    dev = Dev(tmp_path)
    try:
        database = tmp_path / "state" / "triggerstream.db"
        # Events that arrive before the tasks file is in force make no instances.
        wait_until(lambda: "Press Ctrl-C" in dev.text(), within_s=60, what=dev.text)
        with SyncClient(f"sqlite:///{database}", timeout_s=30) as client:
            for session in SESSIONS:
                client.fire(session, "a")
        wait_until(lambda: len(stored(database)) == len(SESSIONS), within_s=30, what=dev.text)
        dev.kill()
        time.sleep(2)  # timers come due while its successor starts, and while it runs
        dev.kill()
        wait_until(
            lambda: len(took_effect(tmp_path)) >= len(expected),
            within_s=120,
            what=lambda: f"{len(took_effect(tmp_path))} of {len(expected)} took effect\n{dev.text()}",
        )
    finally:
        dev.stop()
    assert took_effect(tmp_path) == expected
    for known in stored(database).values():
        began_us = instance(known, "t_late", 0).created_us
        due_us = [instance(known, task, number).decided_us for task, number in DECIDED]
        assert due_us == [began_us + seconds * SECOND for seconds in (2, 3, 0, 2, 4)]
