"""The command `bridge`: the Kafka engine's process that hands commands to Celery."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from triggerstream import variables
from triggerstream.cli.options import kafka_app_options, probes_options, session_timeout_option, skip_option
from triggerstream.core.commands import CELERY_PREFIX
from triggerstream.core.errors import LogError, UsageError
from triggerstream.engine.process_output import write_process_line
from triggerstream.settings import KafkaAddress
from triggerstream.supervision.child import Supervision

if TYPE_CHECKING:
    from triggerstream.engine.checkpoint import LostRange
    from triggerstream.engine.handover.first_offset import FirstOffset
    from triggerstream.engine.handover_process import HandOverProcess
    from triggerstream.engine.health.liveness import PublishedHealth
    from triggerstream.engine.ports import Dispatcher

_FAILED = 70
_END_S = 40.0
"""Time for an orderly end, with or without Kafka: 15 s for pending confirmations, 10 s for each client."""
_COMMENT = "#"
_write_line = partial(write_process_line, "bridge")


class _From(click.ParamType):
    """``earliest``, ``latest``, or an offset."""

    name = "start"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FirstOffset:  # noqa: ANN401
        if value == "earliest":
            return "earliest"
        if value == "latest":
            return "latest"
        if not (value.isascii() and value.isdigit()):
            self.fail(f"{value!r}: write earliest, latest or an offset", param, ctx)
        return int(value)


@click.command()
@kafka_app_options
@click.option(
    "--celery",
    "spec",
    metavar="MODULE:APP",
    help="The Celery app whose broker and routes are used; none of its tasks is run here.",
)
@click.option(
    "--broker",
    metavar="URL",
    envvar=variables.CELERY_BROKER,
    show_envvar=True,
    help="The Celery broker, in place of the app's own; sufficient if the app cannot be imported here.",
)
@click.option(
    "--allow",
    "allowed",
    metavar="NAME",
    multiple=True,
    help="A Celery task that may be run. May be repeated.",
)
@click.option(
    "--allow-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with such names, one on each line; # begins a comment.",
)
@click.option("--allow-any", is_flag=True, help="Any task may be run, except Celery's own.")
@click.option(
    "--from",
    "start",
    type=_From(),
    metavar="earliest|latest|OFFSET",
    help="Start in partitions for which the group has no usable offset: for the first start only.",
)
@skip_option
@click.option("--yes", "agreed", is_flag=True, help="Begin at --from even if this skips commands.")
@session_timeout_option("bridges")
@probes_options
@click.option("-v", "--verbose", is_flag=True, help="Log more, libraries included.")
@click.pass_obj
def bridge(
    supervision: Supervision | None,
    *,
    address: KafkaAddress,
    spec: str | None,
    broker: str | None,
    allowed: tuple[str, ...],
    allow_file: Path | None,
    allow_any: bool,
    start: FirstOffset | None,
    agreed: bool,
    lost: tuple[LostRange, ...],
    session_timeout_us: int,
    probes_host: str,
    probes_port: int | None,
    stuck_us: int,
    verbose: bool,
) -> None:
    """Hand the commands of an app to Celery, each under its own id, until its broker has confirmed it.

    Start several to share the partitions. While the Celery broker is not available, the bridge waits and
    skips nothing. A command that can never be handed over becomes a dead letter, and its instance fails with
    the reason. A small supervisor runs the bridge as its child process, and restarts it after a failure once
    Kafka is available. Exit status: 0 after SIGTERM or SIGINT; 2 if you must repair something first; 70 if
    the child fails repeatedly although Kafka is available.
    """
    _log_to_stderr(verbose=verbose)
    supervision = supervision or Supervision()
    supervision.connecting(address.bootstrap)
    allow = _allow_list(allowed, allow_file, allow_any=allow_any)
    from triggerstream import bootstrap
    from triggerstream.engine.background import TaskEndedError
    from triggerstream.engine.health.liveness import PublishedHealth

    dispatcher = bootstrap.dispatcher(_celery_app(spec, broker), allow=allow)
    health = PublishedHealth(stuck_s=stuck_us / 1_000_000)
    session_timeout_s = session_timeout_us / 1_000_000
    try:
        answering = bootstrap.probes(health, host=probes_host, port=probes_port, supervision=supervision)
        with answering as url:
            if url is not None:
                _write_line(f"probes and metrics: {url}")
            asyncio.run(
                _run(
                    address,
                    dispatcher,
                    health,
                    start=start,
                    agreed=agreed,
                    lost=lost,
                    session_timeout_s=session_timeout_s,
                    member=supervision.member,
                )
            )
    except (LogError, TaskEndedError) as exc:
        _write_line(f"ending with status {_FAILED}: {exc}", "ERROR")
        supervision.ending(str(exc))
        sys.exit(_FAILED)


async def _run(
    address: KafkaAddress,
    dispatcher: Dispatcher,
    health: PublishedHealth,
    *,
    start: FirstOffset | None,
    agreed: bool,
    lost: tuple[LostRange, ...],
    session_timeout_s: float,
    member: str | None,
) -> None:
    from triggerstream import bootstrap
    from triggerstream.engine.background import Background
    from triggerstream.engine.health.liveness import BrokerTimeout, HealthSnapshot, publish_health

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        _write_line("stopping: finishing what is in flight")
        health.stop()
        if not stopping.is_set():
            loop.call_later(_END_S, _end_late)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    made = bootstrap.bridge(
        address,
        dispatcher=dispatcher,
        session_timeout_s=session_timeout_s,
        member=member,
        lost=lost,
        on_ready=_write_ready,
        on_failure=health.fail,
    )
    loop.add_signal_handler(signal.SIGUSR1, _print_progress, made)
    publishing, timeout = Background(made.fail), BrokerTimeout()

    def current_health() -> HealthSnapshot:
        timeout.check(made.answered_at(), now=time.monotonic())
        return made.health()

    publishing.start("publish health", publish_health(health, current_health))
    try:
        await made.run(stopping, start=start, agreed=agreed)
    finally:
        await publishing.close()


def _end_late() -> None:
    """End a bridge that does not stop in time; commands without a committed offset are handed over again."""
    late = f"work in progress was not finished within {_END_S:g} s"
    _write_line(f"ending with status {_FAILED}: {late}", "ERROR")
    sys.stderr.flush()
    os._exit(_FAILED)


def _celery_app(spec: str | None, broker: str | None) -> object:
    from triggerstream import bootstrap
    from triggerstream.cli.dev.celery_app import load_app, own_broker, use_broker

    if spec is None:
        if broker is None:
            raise UsageError("no Celery broker: name the app (--celery my_app.tasks:app) or a --broker URL")
        return bootstrap.celery_app(broker)
    app = load_app(spec)
    if broker is not None:
        use_broker(app, broker)
    bootstrap.check_celery_broker(own_broker(app))
    return app


def _allow_list(names: Collection[str], file: Path | None, *, allow_any: bool) -> frozenset[str] | None:
    """The names of tasks that may be run; None: any.

    Raises:
        UsageError: none are given, or some that cannot be.
    """
    found = set(names)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"--allow-file {file}: cannot be read: {exc}") from exc
        found |= {name for line in lines if (name := line.partition(_COMMENT)[0].strip())}
    if allow_any and (names or file is not None):
        raise UsageError("--allow-any or a list of tasks that may be run (--allow, --allow-file): not both")
    if allow_any:
        return None
    if not found:
        raise UsageError(
            "no task may be run: name those that may with --allow NAME (repeat it) or --allow-file FILE; "
            "--allow-any lets a tasks file run every task of the workers"
        )
    for name in found:
        if name.startswith(CELERY_PREFIX):
            raise UsageError(f"--allow {name}: tasks of Celery's own can run any other task: none is allowed")
    return frozenset(found)


def _log_to_stderr(*, verbose: bool) -> None:
    from triggerstream.cli.dev.output import LogLines
    from triggerstream.cli.printing import without_passwords

    lines = LogLines(lambda level, line: _write_line(without_passwords(line), level))
    lines.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.basicConfig(level=lines.level, handlers=[lines])


def _write_ready(partitions: Collection[int]) -> None:
    _write_line(f"ready: partitions {', '.join(map(str, partitions)) or 'none'}")


def _print_progress(bridge: HandOverProcess) -> None:
    """Print the bridge's progress: SIGUSR1 asks for it."""
    from triggerstream.engine.handover.destinations import NAMED

    done = bridge.handover
    _write_line(f"{done.handed_over} handed over, {done.refused} refused, {done.waiting} not confirmed yet")
    for one in done.refused_destinations()[:NAMED]:
        refusal = f"which the Celery broker refuses: {one.reason}"
        _write_line(f"{one.waiting} wait for {one.destination}, {refusal}")
