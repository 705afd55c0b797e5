"""Tracebacks with the application's frames."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest
from celery import Celery

from triggerstream.adapters.celery.tracebacks import UserTracebacks, format_user_traceback

USER = """
def work(kind):
    if kind == "plain":
        raise ValueError("no good")
    try:
        raise KeyError("first")
    except KeyError as exc:
        raise RuntimeError("second") from exc
"""


@pytest.fixture
def work() -> ModuleType:
    module = ModuleType("my_app")
    exec(compile(USER, "/srv/my_app/tasks.py", "exec"), vars(module))  # noqa: S102 - an application of another place
    return module


def raised_by_celery(work: ModuleType, kind: str) -> BaseException:
    """The exception of a task, with the frames of Celery's tracer around it."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.task_store_eager_result = False
    task = app.task(name="work", shared=False)(work.work)
    with pytest.raises((ValueError, RuntimeError)) as caught:
        task.apply(args=(kind,), throw=True)
    found: BaseException = caught.value
    return found


def files(text: str) -> set[str]:
    return {line.split('"')[1] for line in text.splitlines() if line.startswith("  File ")}


def test_the_frames_of_celery_and_of_triggerstream_are_left_out(work: ModuleType) -> None:
    exc = raised_by_celery(work, "plain")
    text = format_user_traceback(exc)
    assert "site-packages" not in text
    assert "/srv/my_app/tasks.py" in files(text)
    assert text.endswith("ValueError: no good\n")


def test_causes_keep_their_place_and_lose_the_same_frames(work: ModuleType) -> None:
    text = format_user_traceback(raised_by_celery(work, "caused"))
    assert text.index("KeyError: 'first'") < text.index("RuntimeError: second")
    assert "direct cause" in text
    assert "site-packages" not in text


def test_a_group_of_exceptions_is_shown_with_its_members() -> None:
    text = format_user_traceback(ExceptionGroup("all", [ValueError("one"), KeyError("two")]))
    assert "ValueError: one" in text
    assert "KeyError: 'two'" in text


def test_a_log_record_shows_the_same(work: ModuleType) -> None:
    exc = raised_by_celery(work, "plain")
    record = logging.makeLogRecord({"msg": "raised", "exc_info": (type(exc), exc, exc.__traceback__)})
    assert UserTracebacks().filter(record)
    shown = logging.Formatter().format(record)
    assert shown == f"raised\n{format_user_traceback(exc)}".rstrip("\n")
    assert UserTracebacks().filter(logging.makeLogRecord({"msg": "nothing raised"}))
    assert sys.exception() is None
