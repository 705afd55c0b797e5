"""Workers that could lose a task, and how they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from celery import Celery

from tests.adapters.celery.conftest import MODULE, Farm, command
from tests.support.processes import CeleryWorker
from triggerstream.adapters.celery.settings_checks import could_lose, doubtful, unsafe_always
from triggerstream.celery import install
from triggerstream.core.errors import UsageError

PICKLES_TYPE = "application/x-python-serialize"
SAFE = {
    "broker_url": "redis://127.0.0.1:1/0",
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
}

pytestmark = pytest.mark.usefixtures("own_tasks_only")


def app_with(**settings: object) -> Celery:
    app = Celery("checked", set_as_current=False)
    app.conf.update({**SAFE, **settings})
    return app


def nothing() -> None:
    """The function of a task."""


def wrong_with(app: Celery, *, allowed: frozenset[str] = frozenset()) -> str | None:
    return could_lose(app, prefetch_multiplier=app.conf.worker_prefetch_multiplier, allowed=allowed)


def test_safe_settings_are_accepted() -> None:
    assert wrong_with(app_with()) is None
    assert unsafe_always(app_with()) is None


def test_celerys_defaults_are_refused_with_one_line_that_repairs_them() -> None:
    why = wrong_with(Celery("defaults", broker="redis://127.0.0.1:1/0", set_as_current=False))
    assert why == (
        "this worker could lose a task; add: app.conf.update("
        "task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)"
    )


@pytest.mark.parametrize(
    ("setting", "value", "repair"),
    [
        ("task_acks_late", False, "task_acks_late=True"),
        ("task_reject_on_worker_lost", False, "task_reject_on_worker_lost=True"),
        ("worker_prefetch_multiplier", 4, "worker_prefetch_multiplier=1"),
        ("accept_content", ["json", "yaml"], "accept_content=['json']"),
        ("task_serializer", "yaml", "task_serializer='json'"),
        ("result_serializer", "msgpack", "result_serializer='json'"),
    ],
)
def test_each_unsafe_setting_is_refused_with_its_repair(setting: str, value: object, repair: str) -> None:
    why = wrong_with(app_with(**{setting: value}))
    assert why == f"this worker could lose a task; add: app.conf.update({repair})"


@pytest.mark.parametrize("broker", ["memory://", "filesystem://", "sqla+sqlite:///broker.db"])
def test_a_broker_that_forgets_is_refused(broker: str) -> None:
    why = wrong_with(app_with(broker_url=broker))
    assert why is not None
    assert "forgets" in why


@pytest.mark.parametrize("broker", ["amqp://h", "pyamqp://h", "redis://h", "rediss://h", "sentinel://h"])
def test_a_broker_that_waits_for_acknowledgements_is_accepted(broker: str) -> None:
    assert wrong_with(app_with(broker_url=broker)) is None


def test_a_task_with_settings_of_its_own_is_refused_unless_it_is_named() -> None:
    app = app_with()
    app.task(name="early", acks_late=False, shared=False)(nothing)
    why = wrong_with(app)
    assert why is not None
    assert "early has acks_late=False" in why
    assert wrong_with(app, allowed=frozenset({"early"})) is None


def test_a_task_that_may_outlast_the_visibility_timeout_is_refused() -> None:
    app = app_with(broker_transport_options={"visibility_timeout": 60})
    app.task(name="long", time_limit=120, shared=False)(nothing)
    why = wrong_with(app)
    assert why is not None
    assert "broker_transport_options={'visibility_timeout': 240}" in why


def warned(app: Celery, *, pool: str = "prefork", limit_s: float | None = None) -> list[str]:
    return doubtful(app, pool=pool, worker_limit_s=limit_s, allowed=frozenset({"named"}))


@pytest.mark.parametrize("pool", ["threads", "solo", "eventlet"])
def test_a_time_limit_in_a_pool_that_enforces_none_is_warned_of(pool: str) -> None:
    app = app_with(broker_url="amqp://h")
    app.task(name="free", shared=False)(nothing)
    assert warned(app, pool=pool) == []
    app.task(name="limited", soft_time_limit=5, shared=False)(nothing)
    app.task(name="named", time_limit=5, shared=False)(nothing)
    (says,) = warned(app, pool=pool)
    assert says.startswith(f"the time limit of limited does nothing: the pool {pool} enforces none; ")
    assert warned(app) == warned(app, pool="gevent") == []
    (says,) = warned(app, pool=pool, limit_s=9)
    assert says.startswith("the time limit of free, limited does nothing")


def test_a_task_without_a_limit_beside_a_visibility_timeout_is_warned_of() -> None:
    app = app_with(broker_transport_options={"visibility_timeout": 100})
    app.task(name="limited", time_limit=50, shared=False)(nothing)
    app.task(name="named", shared=False)(nothing)
    assert warned(app) == []
    for number in range(5):
        app.task(name=f"free{number}", shared=False)(nothing)
    assert warned(app) == [
        (
            "no time limit ends free0, free1, free2 and 2 more, and the broker delivers a message again "
            "after 100 s, even if its task still runs; add: app.conf.update(task_time_limit=90)"
        )
    ]
    assert warned(app, limit_s=60) == []
    ignored, unlimited = warned(app, pool="threads")
    assert ignored.startswith("the time limit of limited does nothing")
    assert unlimited.startswith("no time limit ends free0, free1, free2 and 3 more, and ")
    assert "visibility_timeout': 200}), or more" in unlimited
    app.conf.task_time_limit = 60
    assert warned(app) == []


@pytest.mark.celery
def test_a_worker_prints_a_warning_at_its_start_and_starts(farm: Farm, tmp_path: Path) -> None:
    worker = CeleryWorker(MODULE, "-P", "solo", env=farm.env, output=tmp_path / "warned")
    try:
        worker.wait_ready()
        lines = [line for line in worker.text().splitlines() if line.startswith("triggerstream: ")]
    finally:
        worker.stop()
    assert [line for line in lines if line.startswith("triggerstream: warning: no time limit ends ")]


@pytest.mark.parametrize("setting", ["task_serializer", "result_serializer"])
def test_pickle_is_always_refused(setting: str) -> None:
    assert "pickle" in (unsafe_always(app_with(**{setting: "pickle"})) or "")
    assert "pickle" in (unsafe_always(app_with(accept_content=["json", "pickle"])) or "")
    assert "pickle" in (
        unsafe_always(app_with(result_accept_content=["application/x-python-serialize"])) or ""
    )


def test_a_second_install_is_refused() -> None:
    app = app_with()
    install(app, "sqlite:////tmp/triggerstream.db")
    with pytest.raises(UsageError, match="already"):
        install(app)


def refusal(farm: Farm, tmp_path: Path, **env: str) -> str:
    """What a worker prints that does not start."""
    worker = CeleryWorker(MODULE, "-c", "1", env={**farm.env, **env}, output=tmp_path / "refused")
    assert worker.wait_end() == 2
    (said,) = [line for line in worker.text().splitlines() if line.startswith("triggerstream: ")]
    assert "Traceback" not in worker.text()
    return said


@pytest.mark.celery
def test_a_worker_that_could_lose_a_task_does_not_start(farm: Farm, tmp_path: Path) -> None:
    said = refusal(farm, tmp_path, TEST_CONF=json.dumps({"task_acks_late": False}))
    assert said == "triggerstream: this worker could lose a task; add: app.conf.update(task_acks_late=True)"


@pytest.mark.celery
def test_a_worker_that_takes_pickle_does_not_start_whatever_is_allowed(farm: Farm, tmp_path: Path) -> None:
    conf = json.dumps({"accept_content": ["json", "pickle"]})
    assert "pickle" in refusal(farm, tmp_path, TEST_CONF=conf, TEST_ALLOW_LOSS="true", C_FORCE_ROOT="1")


@pytest.mark.celery
@pytest.mark.parametrize("log", ["", "nowhere://"])
def test_a_worker_without_a_log_to_report_to_does_not_start(farm: Farm, tmp_path: Path, log: str) -> None:
    said = refusal(farm, tmp_path, TEST_LOG="address", TRIGGERSTREAM_LOG=log)
    assert "sqlite:///" in said


@pytest.mark.celery
async def test_a_worker_may_be_told_to_run_all_the_same(farm: Farm) -> None:
    farm.worker(TEST_CONF=json.dumps({"task_acks_late": False}), TEST_ALLOW_LOSS="true")
    events = await farm.run(command("echo"))
    assert events[-1]["type"] == "triggerstream.task.finished"
