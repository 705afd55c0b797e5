"""The worker process: from its settings to its exit status.

===  =====================================================================================================
0    SIGTERM or SIGINT: what was in flight is durable, the partitions were given back
2    it cannot start as things are (topics, identity, a newer configuration); a person must repair it
70   a failure of the infrastructure: nothing of what was in flight is known to be durable; start it again
75   another worker has taken a partition over while this one was away; start it again
===  =====================================================================================================
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from triggerstream.adapters.faust.app import WorkerApp, build_app
from triggerstream.adapters.faust.health import read_health
from triggerstream.adapters.faust.settings import WorkerSettings
from triggerstream.adapters.faust.web import WebListener
from triggerstream.adapters.faust.web_view import serve_web_view
from triggerstream.adapters.faust.worker_lines import print_progress, print_recovery, write_line
from triggerstream.adapters.faust.worker_topics import find_topics, refuse_unknown_partitions, watch_topics_of
from triggerstream.adapters.freed_memory import find_malloc_trim, return_freed_memory
from triggerstream.adapters.kafka.group import LEAVE_S, leave
from triggerstream.adapters.kafka.layout import Layout
from triggerstream.adapters.kafka.topics import Topics, worker_group
from triggerstream.core.errors import LogError, describe_error
from triggerstream.core.printable import ranges
from triggerstream.engine.background import Background
from triggerstream.engine.broker_wait import BrokerWait
from triggerstream.engine.garbage import collect_less_often
from triggerstream.engine.health.end_report import OnEnd, no_report
from triggerstream.engine.health.liveness import (
    BrokerTimeout,
    HealthSnapshot,
    PublishedHealth,
    publish_health,
)
from triggerstream.engine.partitioned.ports import (
    FencedError,
    UnreadableTakeOverError,
    is_refusal,
)
from triggerstream.engine.private_files import make_private_directory
from triggerstream.engine.queries.index import Index

if sys.platform != "win32":
    import uvloop

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

DRAINED = 0
REFUSED = 2
FAILED = 70
FENCED = 75
_END_SILENCE_S = 40.0
"""Time without an answer of any broker after which an orderly end is given up."""
END_S = 100.0
"""Maximum time of an orderly end while brokers answer: for a rebalance in progress and the checkpoints in
flight. Kubernetes kills a worker after 120 s; the next owner undoes what is not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebParts:
    """The parts of the web view: its listener, and the factory for the index of a partition in a file."""

    view: WebListener
    index: Callable[[Path, int], Index]


def run_worker(
    settings: WorkerSettings,
    *,
    health: PublishedHealth | None = None,
    web_parts: WebParts | None = None,
    on_end: OnEnd = no_report,
) -> int:
    """Run a worker until SIGTERM or SIGINT; return its exit status. A failure ends the process.

    It publishes its health in ``health``. ``on_end`` is called with the reason before
    the process ends with a failure.

    Raises:
        UsageError: something must be repaired before it can start.
    """
    make_private_directory(settings.directory)
    # With uvloop, which does not run on Windows, a full log takes a tenth less time.
    factory = None if sys.platform == "win32" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_run(settings, health or PublishedHealth(), web_parts, on_end))


async def _run(
    settings: WorkerSettings,
    health: PublishedHealth,
    web_parts: WebParts | None,
    on_end: OnEnd,
) -> int:
    app: WorkerApp | None = None

    def fail(exc: BaseException) -> NoReturn:
        health.fail(str(exc))
        end_process(exc, on_end=on_end, on_refusal=lambda: leave_at_once(settings, app))

    loop = asyncio.get_running_loop()
    stopping = _stopping(health, fail)
    tasks = Background(fail)
    tasks.start("publish health", publish_health(health, HealthSnapshot))
    topics = Topics.of(settings.app)
    try:
        layout = await _unless_stopped(stopping, find_topics(settings))
    except LogError as exc:
        write_line(f"ending with status {FAILED}: {exc}")
        on_end(str(exc), unreadable=isinstance(exc, UnreadableTakeOverError))
        return FAILED
    finally:
        await tasks.close()
    if layout is None:
        return DRAINED  # it has had nothing yet
    identity, changelog = layout.identity, layout.cluster.topics[topics.changelog]
    refuse_unknown_partitions(settings, identity.partitions)
    started = time.monotonic()

    def ready(partitions: list[int]) -> None:
        took = time.monotonic() - started
        write_line(f"ready: partitions {ranges(partitions)}, {took:.1f} s after the start")

    collect_less_often()
    app = build_app(
        settings,
        identity=identity,
        changelog_id=changelog.id,
        fail=fail,
        on_ready=ready,
        on_recovery=print_recovery,
    )
    loop.add_signal_handler(signal.SIGUSR1, print_progress, app)
    await _work(app, settings, layout, health=health, web_parts=web_parts, stopping=stopping, fail=fail)
    return DRAINED


async def _work(
    app: WorkerApp,
    settings: WorkerSettings,
    layout: Layout,
    *,
    health: PublishedHealth,
    web_parts: WebParts | None,
    stopping: asyncio.Event,
    fail: Callable[[BaseException], NoReturn],
) -> None:
    """Run ``app`` until ``stopping`` is set, then end it in an orderly way."""
    tasks, timeout = Background(fail), BrokerTimeout()

    def current_health() -> HealthSnapshot:
        timeout.check(app.answered_at(), now=time.monotonic())
        return read_health(app)

    tasks.start("publish health", publish_health(health, current_health))
    if (trim := find_malloc_trim()) is not None:
        tasks.start("return freed memory", return_freed_memory(trim))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(tasks.close)
        stack.push_async_callback(app.close_clients)
        if web_parts is not None:
            web_view = serve_web_view(
                app, settings, identity=layout.identity, view=web_parts.view, index=web_parts.index
            )
            await stack.enter_async_context(web_view)
            write_line(f"web view: {web_parts.view.address}")
        starting = asyncio.create_task(_start(app, fail))
        tasks.start("look at the topics", watch_topics_of(settings, layout))
        await stopping.wait()
        write_line("stopping: finishing what is in flight")
        limit = BrokerWait(answered_at=app.answered_at, silence_s=_END_SILENCE_S, longest_s=END_S)
        never = asyncio.Event()
        tasks.start("end", limit.wait(never.wait(), place="worker", what="its orderly end"))
        await _stop_and_leave(app, settings)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


def _stopping(health: PublishedHealth, fail: Callable[[BaseException], None]) -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; the process ends if it has not stopped ``END_S`` later."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        health.stop()
        if not stopping.is_set():
            late = LogError(f"work in progress was not finished within {END_S:g} s")
            loop.call_later(END_S, fail, late)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


async def _unless_stopped(stopping: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """The result of ``work``; None if ``stopping`` was set first."""
    working, waiting = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait([working])
            return None
        return working.result()
    finally:
        waiting.cancel()


async def _stop_and_leave(app: WorkerApp, settings: WorkerSettings) -> None:
    member_id = app.member_id()
    await app.stop()
    await _leave(settings, member_id)


def leave_at_once(settings: WorkerSettings, app: WorkerApp | None) -> None:
    """Leave the group where the process ends until a person has repaired something, `--stay` or not.

    The repair may need a group without members. It is done in a thread with a loop of its own, as nothing in
    the loop of the process is to go on meanwhile. Another process that has the name stays a member.
    """
    if app is None:
        return
    leaving = threading.Thread(
        target=lambda: asyncio.run(_leave(replace(settings, leaves=True), app.member_id())), daemon=True
    )
    leaving.start()
    leaving.join(LEAVE_S)


async def _leave(settings: WorkerSettings, member_id: str) -> None:
    """Leave the group, so that others get the partitions at once; aiokafka does not for static members."""
    if settings.instance_id is None or not settings.leaves or not member_id:
        return
    try:
        await leave(
            settings.connection(), worker_group(settings.app), name=settings.instance_id, member_id=member_id
        )
    except LogError as exc:
        write_line(f"warning: {exc}: its partitions wait until its session has timed out")


async def _start(app: WorkerApp, fail: Callable[[BaseException], None]) -> None:
    try:
        await app.start()
    except Exception as exc:  # noqa: BLE001 - it has not owned anything yet
        fail(exc)


def end_process(
    exc: BaseException,
    *,
    on_end: OnEnd = no_report,
    on_refusal: Callable[[], object] = lambda: None,
) -> NoReturn:
    """End at once, with the status that ``exc`` deserves. Nothing is finished: it may not be ours.

    ``on_refusal`` is called where a person must repair something before the next start.
    """
    status = FENCED if isinstance(exc, FencedError) else REFUSED if is_refusal(exc) else FAILED
    if status == FAILED:
        logger.critical("worker ends", exc_info=exc)
    write_line(f"ending with status {status}: {describe_error(exc)}")
    on_end(str(exc) or type(exc).__name__, unreadable=isinstance(exc, UnreadableTakeOverError))
    if status == REFUSED:
        on_refusal()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
