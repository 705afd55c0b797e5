"""The Celery app of the latency benchmark: its task notes when it started."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

STARTS_VARIABLE = "BENCH_STARTS"

app = Celery("bench")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
)


@app.task(name="bench.note")
def note(**kwargs: Any) -> None:  # noqa: ANN401 - one argument for each trigger
    """Append the ``name`` that came with the arguments, and the time."""
    started = time.time()
    name = next(arguments["name"] for arguments in kwargs.values() if "name" in arguments)
    with Path(os.environ[STARTS_VARIABLE]).open("a") as file:
        file.write(f"{name} {started}\n")
