"""`triggerstream dev`: run a tasks file on this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triggerstream.cli.options import json_option, state_directory_option
from triggerstream.core.errors import ClockError, ConfigError, UsageError
from triggerstream.loglines import line_head
from triggerstream.settings import DEFAULT_PORT, locate

if TYPE_CHECKING:
    from triggerstream.cli.dev.output import DevOutput
    from triggerstream.cli.dev.runtime import Runtime, Setup
    from triggerstream.core.tasks import Configuration
    from triggerstream.wire.tasksfile import Check

_POLL_S = 0.2
"""How often the tasks file is checked for changes, by its name: editors may replace it, links may move."""
_UNUSABLE = 2
_INTERRUPTED = 130


@click.command()
@click.argument("file", metavar="TASKS.json", type=click.Path(path_type=Path))
@click.option(
    "--celery", metavar="MODULE:APP", help="The Celery app that has the tasks; dev runs a worker of it."
)
@click.option(
    "--broker",
    metavar="URL",
    help="The Celery broker. By default the app's own; if it names none, dev runs a Valkey.",
)
@click.option(
    "--port",
    default=DEFAULT_PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port of the HTTP intake and the pages on 127.0.0.1; 0 for a free one.",
)
@click.option(
    "--concurrency",
    default=2,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of processes of the Celery worker.",
)
@click.option(
    "--accept-clock",
    is_flag=True,
    help="Accept events by this machine's clock as it is, also if it was set forward while dev ran.",
)
@state_directory_option
@json_option
def dev(
    *,
    file: Path,
    celery: str | None,
    broker: str | None,
    port: int,
    concurrency: int,
    accept_clock: bool,
    at: str,
    as_json: bool,
) -> None:
    """Run TASKS.json with an embedded engine, an HTTP intake and a Celery worker.

    The file is applied at the start and whenever it changes; a file with errors changes nothing. All state is
    in the directory that --dir names: a restart continues with it. Without --celery, decisions are made
    and kept, and nothing is run. Ctrl-C ends dev and all its processes.
    """
    from triggerstream.cli.dev.output import JsonOutput, LogLines, PlainOutput, print_findings
    from triggerstream.cli.dev.runtime import Setup
    from triggerstream.engine.garbage import collect_less_often

    directory = locate(at).state_directory
    if directory is None:
        raise UsageError(f"{at}: dev keeps its state in a directory: name one with --dir")
    if broker is not None and celery is None:
        raise click.UsageError("--broker is that of a Celery app: name it with --celery module:app")
    setup = Setup(
        directory=directory,
        celery=celery,
        broker=broker,
        port=port,
        concurrency=concurrency,
        accept_clock=accept_clock,
    )
    output = JsonOutput() if as_json else PlainOutput()
    collect_less_often()

    def write_log(level: str, line: str) -> None:
        output.write_line("engine", f"{line_head(level)} {line}")

    logging.getLogger().addHandler(LogLines(write_log))
    try:
        asyncio.run(until_signalled(_Dev(file, setup, output)))
    except ConfigError as exc:
        print_findings(exc)
        sys.exit(_UNUSABLE)


async def until_signalled(dev_: _Dev) -> None:
    """Run until it ends by itself, or a first SIGINT or SIGTERM stops it; a second one ends it at once."""
    work = asyncio.create_task(dev_.run())
    loop = asyncio.get_running_loop()
    asked = False

    def stop() -> None:
        nonlocal asked
        if asked:
            os._exit(_INTERRUPTED)  # the children end with this process
        asked = True
        dev_.output.write_line("dev", f"{line_head()} stopping; press Ctrl-C again to end at once")
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await work
    except asyncio.CancelledError:
        if not asked:
            raise


class _Dev:
    def __init__(self, file: Path, setup: Setup, output: DevOutput) -> None:
        self._file = file
        self._setup = setup
        self.output = output
        self._refused = False
        """The file was last found unusable."""

    async def run(self) -> None:
        """Run until something ends that should not; raises what it ended with."""
        from triggerstream.cli.dev.checkpoint_lines import CheckpointLines
        from triggerstream.cli.dev.runtime import Runtime, until_first_ends
        from triggerstream.cli.tasks_file import load_with_findings

        stamp = _stamp(self._file)
        lines = CheckpointLines(self.output.write_event)
        starting = Runtime(self._setup, on_checkpoint=lines.take, write_line=self.output.write_line)
        checks = starting.load_app()
        config, findings = load_with_findings(self._file, starting.configurations, further=checks)
        async with starting as runtime:
            await self._bring_into_force(runtime, config)
            await runtime.start_worker(runtime.queues(config))
            self._ready(runtime, config)
            self.output.write_warnings(self._file, findings)
            tasks = [
                asyncio.create_task(lines.run(runtime.reader, since=runtime.since)),
                asyncio.create_task(runtime.ended()),
                asyncio.create_task(self._watch(runtime, stamp, checks)),
            ]
            await until_first_ends(tasks, kept=1)

    async def _watch(self, runtime: Runtime, seen: _Stamp, checks: Sequence[Check]) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            stamp = _stamp(self._file)
            if stamp == seen:
                continue
            await asyncio.sleep(_POLL_S)
            if _stamp(self._file) != stamp:
                continue  # it is still being written
            seen = stamp
            await self._apply(runtime, checks)

    async def _apply(self, runtime: Runtime, checks: Sequence[Check]) -> None:
        from triggerstream.cli.tasks_file import load_with_findings

        try:
            config, findings = load_with_findings(self._file, runtime.configurations, further=checks)
        except (ConfigError, UsageError) as exc:
            self._refused = True
            self.output.write_refused(self._file, exc)
            return
        was_refused, self._refused = self._refused, False
        if await self._bring_into_force(runtime, config):
            self.output.write_applied(self._file, len(config.tasks))
            self.output.write_warnings(self._file, findings)
            await runtime.start_worker(runtime.queues(config))
        elif was_refused:
            self.output.write_restored(self._file, len(config.tasks))

    async def _bring_into_force(self, runtime: Runtime, config: Configuration) -> bool:
        """Apply ``config``, once the log takes it; False if it is in force already."""
        from triggerstream.engine.clock_step import CLOCK_PAUSE_S

        waits = False
        while True:
            try:
                return await runtime.engine.apply(config.text, name=str(self._file))
            except ClockError:
                if not waits:
                    self.output.write_line("clock", f"{self._file}: is applied once events are accepted")
                waits = True
            await asyncio.sleep(CLOCK_PAUSE_S)

    def _ready(self, runtime: Runtime, config: Configuration) -> None:
        setup = self._setup
        names: list[str] = [name for task in config.tasks for name in task.needs] or ["TRIGGER"]
        self.output.write_ready(
            {
                "tasks": str(self._file),
                "count": len(config.tasks),
                "directory": str(setup.directory),
                "address": str(runtime.address),
                "url": runtime.url,
                "celery": setup.celery,
                "broker": setup.broker,
                "ownBroker": runtime.has_own_broker,
                "pid": os.getpid(),
                "try": f"triggerstream fire my-session {names[0]} --at {setup.directory}",
            }
        )


_Stamp = tuple[int, int, int] | None


def _stamp(file: Path) -> _Stamp:
    """A stamp that changes when the file does; None if there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _queues(config: Configuration) -> list[str]:
    return [task.queue for task in config.tasks if task.queue]
