"""`triggerstream demo`: the demonstration, with real processes, on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from triggerstream import variables
from triggerstream.cli.options import json_option
from triggerstream.cli.printing import brief, console, json_line, print_line, text
from triggerstream.core.answers import ExplainedSession
from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.ids import JsonObject
from triggerstream.wire.answers import to_json

if TYPE_CHECKING:
    from triggerstream.cli.dev.runtime import Runtime

COMPLETE = "participant-1"
LACKING = "participant-2"
FIRES: tuple[tuple[str, str, JsonObject], ...] = (
    (COMPLETE, "module4Received", {"steps": [4210, 6120, 9874]}),
    (LACKING, "module4Received", {"steps": [1000], "device": "watch"}),
    (COMPLETE, "module1Received", {"participant": "Ada"}),
)
_DEADLINE_S = 45.0
_POLL_S = 0.02


@click.command()
@json_option
def demo(*, as_json: bool) -> None:
    """Run the demonstration: a real broker, a real Celery worker, the survey's tasks file.

    It fires two triggers out of order for one session, only one of them for another, and shows the
    result. The exit status is 0 only if the task really ran, once. Nothing is left behind.
    """
    try:
        ran = asyncio.run(_Demo(as_json=as_json).run())
    except TimeoutError:
        print_line(f"the task has not finished within {_DEADLINE_S:g} s", err=True)
        ran = False
    sys.exit(0 if ran else 1)


@dataclass(slots=True)
class _Demo:
    as_json: bool
    worker: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    async def run(self) -> bool:
        """True if the task ran once, according to the file that it writes."""
        from triggerstream.demo import SURVEY

        with TemporaryDirectory(prefix="triggerstream-demo-") as name:
            place = Path(name)
            shutil.copytree(SURVEY, place, dirs_exist_ok=True)
            self._title("1. A tasks file says which Celery task runs when which triggers have arrived")
            self._source((place / "survey.json").read_text(encoding="utf-8"))
            results = place / "results.jsonl"
            with _moved_to(place, results):
                return await self._act(place, results)

    async def _act(self, place: Path, results: Path) -> bool:
        self._title("2. An engine, a broker and a Celery worker start")
        async with self._runtime(place) as runtime:
            self._write_line(f"engine and HTTP intake at {runtime.url}, state in {place}")
            self._write_line("broker: a Valkey server; worker: a Celery process with my_app.tasks")
            self._title("3. An application fires triggers, out of order")
            for session, trigger, data in FIRES:
                await self._fire(runtime, session, trigger, data)
            async with asyncio.timeout(_DEADLINE_S):
                await self._settled(runtime)
            explained = [await runtime.view.explain(session) for session in (COMPLETE, LACKING)]
            lines = _lines(results)
        self._show([found for found in explained if found is not None])
        return self._verdict(lines)

    @asynccontextmanager
    async def _runtime(self, place: Path) -> AsyncIterator[Runtime]:
        from triggerstream.cli.dev.runtime import Runtime, Setup
        from triggerstream.cli.tasks_file import load

        setup = Setup(
            directory=place / "state", celery="my_app.tasks:app", broker=None, port=0, concurrency=1
        )
        runtime = Runtime(setup, on_checkpoint=lambda _: None, write_line=self._keep_line)
        try:
            async with runtime:
                config = load(place / "survey.json", runtime.configurations)
                await runtime.engine.apply(config.text, name="survey.json")
                await runtime.start_worker([])
                yield runtime
        except (TriggerstreamError, TimeoutError):
            for line in self.worker:
                print_line(line, err=True)
            raise

    def _keep_line(self, source: str, line: str) -> None:
        self.worker.append(f"{source}: {line}")

    async def _fire(self, runtime: Runtime, session: str, trigger: str, data: JsonObject) -> None:
        from triggerstream.client import Client

        async with Client(str(runtime.url), source="demo") as client:
            await client.fire(session, trigger, data)
        self._write_line(f"{session}  {trigger}  {brief(data)}")

    async def _settled(self, runtime: Runtime) -> None:
        """Return once every decided command has its outcome, and every outcome is folded."""
        ended = asyncio.create_task(runtime.ended())
        try:
            while not await self._is_settled(runtime):
                await asyncio.wait([ended], timeout=_POLL_S)
                if ended.done():
                    await ended
        finally:
            ended.cancel()

    async def _is_settled(self, runtime: Runtime) -> bool:
        state = await runtime.view.state(COMPLETE)
        ran = state is not None and "t_processStepData" in state.seen
        progress = await runtime.reader.progress()
        return ran and progress.outbox == 0 and progress.lag == 0

    def _show(self, explained: Sequence[ExplainedSession]) -> None:
        from triggerstream.cli.commands.sessions import timeline, tree

        if self.as_json:
            for found in explained:
                json_line(to_json(found))
            return
        self._title("4. The result: why the task ran for one session, and what the other one waits for")
        out = console()
        for found in explained:
            out.print(tree(found, now_us=found.clock_us))
            for line in timeline(found):
                out.print(line)
            out.print()

    def _verdict(self, lines: list[JsonObject]) -> bool:
        """True if the file that the task itself writes has exactly the expected line."""
        sessions = [line.get("session") for line in lines]
        ran = sessions == [COMPLETE]
        if self.as_json:
            json_line({"ran": sessions.count(COMPLETE), "ranForTheOther": sessions.count(LACKING), "ok": ran})
            return ran
        self._title("5. The file that the task itself wrote")
        for line in lines:
            self._write_line(f"it wrote {json.dumps(line)}")
        if ran:
            self._write_line("It ran once, for the session that has both triggers. All processes have ended.")
        else:
            print_line(f"expected one run, for {COMPLETE}; the task wrote {len(lines)} lines", err=True)
        return ran

    def _title(self, title: str) -> None:
        if not self.as_json:
            console().print()
            console().print(text(title, "bold"))

    def _write_line(self, line: str) -> None:
        if not self.as_json:
            console().print(text(f"   {line}"))

    def _source(self, source: str) -> None:
        from rich.padding import Padding
        from rich.syntax import Syntax

        if not self.as_json:
            if not console().is_terminal:
                for line in source.splitlines():
                    self._write_line(line)
                return
            shown = Syntax(source, "javascript", background_color="default", word_wrap=True)
            console().print(Padding(shown, (0, 0, 0, 3)))


@contextmanager
def _moved_to(place: Path, results: Path) -> Iterator[None]:
    """Work in the directory ``place``, as a developer of `my_app` would, with the demo's own broker."""
    before, environment = Path.cwd(), dict(os.environ)
    os.chdir(place)
    os.environ["SURVEY_RESULTS"] = str(results)
    os.environ.pop(variables.CELERY_BROKER, None)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)


def _lines(path: Path) -> list[JsonObject]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
