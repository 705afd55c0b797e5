"""A worker gives its partitions back as long as brokers answer and the group waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from triggerstream.adapters.faust import app as faust_app
from triggerstream.adapters.faust.app import WorkerApp, build_app
from triggerstream.adapters.faust.settings import WorkerSettings
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.wire.marks import Identity

Made = tuple[WorkerApp, asyncio.Event, list[BaseException]]
Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A worker's application that closes its partitions once an event is set, and how it failed."""
    monkeypatch.setattr(faust_app, "_CLOSE_SILENCE_S", 0.02)

    def build(*, answered_at: Callable[[], float], rebalance_timeout_s: float = 60.0) -> Made:
        failures: list[BaseException] = []
        app = build_app(
            WorkerSettings(
                bootstrap="127.0.0.1:1",
                app=AppId("test"),
                directory=tmp_path,
                rebalance_timeout_s=rebalance_timeout_s,
            ),
            identity=Identity(cluster="c", topic="t", partitions=1),
            changelog_id="c",
            fail=failures.append,
            on_ready=lambda _partitions: None,
            on_recovery=lambda _left: None,
        )
        closed = asyncio.Event()
        monkeypatch.setattr(app, "answered_at", answered_at)
        monkeypatch.setattr(app, "owner", SimpleNamespace(close=closed.wait))
        return app, closed, failures

    return build


async def test_it_takes_the_time_that_it_takes_while_brokers_answer(make: Make) -> None:
    asked = count()
    app, closed, failures = make(answered_at=lambda: float(next(asked)))
    closing = asyncio.create_task(app.close_partitions())
    while next(asked) < 100:  # noqa: ASYNC110 - five times what would have ended it
        await asyncio.sleep(0.001)
    assert not closing.done()
    closed.set()
    await closing
    assert not failures


async def test_it_ends_the_process_where_no_broker_answers(make: Make) -> None:
    app, _, failures = make(answered_at=lambda: 0.0)
    await app.close_partitions()
    assert isinstance(failures[0], LogError)
    assert "no broker has answered for 0.02 s during the return of its partitions" in str(failures[0])


async def test_it_ends_the_process_once_the_group_has_gone_on_without_it(make: Make) -> None:
    asked = count()
    app, _, failures = make(answered_at=lambda: float(next(asked)), rebalance_timeout_s=0.04)
    await app.close_partitions()
    assert "has not ended within 0.04 s" in str(failures[0])


async def test_a_recovery_without_a_fetch_does_not_leave_the_group_however_long_it_takes(make: Make) -> None:
    app, _, _ = make(answered_at=lambda: 0.0)
    assert app.conf.broker_max_poll_interval > 20 * 86_400
