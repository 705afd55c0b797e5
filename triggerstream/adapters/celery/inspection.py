"""Asks the workers of a Celery broker which tasks they have, and whether they report outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from triggerstream.adapters.celery.worker import REPORTS
from triggerstream.engine.operations.executor_workers import HeardWorker

if TYPE_CHECKING:
    from celery import Celery

ANSWER_S = 3.0
"""Time for answers: the number of workers is not known, so all of it is waited."""
_REPORTS = f" [{REPORTS}=True]"
"""Behind a task's name in Celery's answer, which is text."""


def hear_workers(app: Celery, *, answer_s: float = ANSWER_S) -> Sequence[HeardWorker]:
    """The workers that answer, by name. One without remote control does not."""
    answers = app.control.inspect(timeout=answer_s).registered(REPORTS) or {}
    return [
        HeardWorker(
            name=name,
            tasks=frozenset(task.split(" [", 1)[0] for task in tasks),
            reporting=frozenset(task.removesuffix(_REPORTS) for task in tasks if task.endswith(_REPORTS)),
        )
        for name, tasks in sorted(answers.items())
    ]
