"""Keeps a claim alive while the task's body runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from triggerstream.adapters.celery.guards import Held

logger = logging.getLogger(__name__)


@contextmanager
def kept_alive(held: Held, *, lease_s: float, end_process: Callable[[], object]) -> Iterator[None]:
    """Renew ``held`` each third of ``lease_s``.

    If only the lease prevents a command from running twice at once, this process ends when another process
    has taken the lease over, or is about to, because the store does not answer.
    """
    stop = threading.Event()
    thread = threading.Thread(
        target=_renew,
        args=(held, lease_s, stop, end_process),
        name="triggerstream-lease",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()


def _renew(held: Held, lease_s: float, stop: threading.Event, end_process: Callable[[], object]) -> None:
    pause_s = lease_s / 3
    alive_until = time.monotonic() + lease_s
    while not stop.wait(pause_s):
        asked = time.monotonic()
        try:
            ours = held.renew()
        except Exception:
            logger.warning("A lease was not renewed; trying again", exc_info=True)
            if asked + pause_s < alive_until:
                continue
            ours = False
        else:
            alive_until = asked + lease_s
        if ours or stop.is_set():
            continue
        if held.fatal_when_lost:
            logger.critical(
                "The lease of a running command is lost: this process ends, its message comes again"
            )
            end_process()
            return
        logger.warning("The lease of a running command is lost: its effect will be undone unless it is first")
        return
