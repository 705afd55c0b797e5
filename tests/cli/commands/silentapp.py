"""A Celery app whose module does not call ``install``: its tasks run, and nothing is reported."""

from __future__ import annotations

from celery import Celery

app = Celery("silentapp")


@app.task(name="app.process")
def process(module1: object, module4: object) -> None:
    """Do nothing with what arrived."""
    del module1, module4
