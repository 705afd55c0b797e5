"""The survey on the whole chain: ``make demo-kafka``, or ``python -m tests.support.demo_kafka [--json]``.

Kafka, topics, configuration, two workers, a bridge, a Celery worker on a Valkey, and a producer that is not
ours, with the partitioner that it has by default. ``TRIGGERSTREAM_KAFKA=host:port`` names a cluster to use in
place of one of its own; the topics that it makes there it deletes. All that it starts ends with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import click
from confluent_kafka import Message, Producer

from tests.support.kafka.server import KafkaStartError, KafkaUnavailableError
from tests.support.kafka.shared import a_kafka, topics_gone
from triggerstream import bootstrap, variables
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.cli.commands.demo import COMPLETE, FIRES, LACKING
from triggerstream.cli.dev.children import Child, start_valkey
from triggerstream.cli.opening import quiet
from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.ids import AppId
from triggerstream.core.placement import partition_of
from triggerstream.demo import SURVEY
from triggerstream.engine.queries.view import View
from triggerstream.settings import KafkaAddress

PARTITIONS = 4
TASK = "t_processStepData"
RUN = "my_app.tasks.ProcessStepData"
DEADLINE_S = 180.0
"""It takes 15 s on an idle machine; a loaded one may need many times that."""
_POLL_S = 0.1
_GRACE_S = 30.0
_LINES = 15


class DemoError(Exception):
    """A part of the chain did not do what it must."""


@dataclass(slots=True)
class Part:
    """A process of the chain and what it said."""

    name: str
    child: Child
    lines: list[str]

    async def wait_for_output(self, words: str) -> None:
        """Wait until it has said ``words``."""
        while not any(words in line for line in self.lines):
            self.check()
            await asyncio.sleep(_POLL_S)

    def check(self) -> None:
        """Raise if it has ended by itself."""
        if self.child.returncode is not None:
            raise DemoError(f"the {self.name} ended with status {self.child.returncode}")

    async def end(self) -> None:
        """Have it end in order."""
        await self.child.stop()
        if self.child.returncode != 0:
            raise DemoError(
                f"the {self.name} ended with status {self.child.returncode} when it was asked to end"
            )


@dataclass(slots=True)
class Demo:
    """One run. ``place`` is the survey's project, in a directory of its own."""

    place: Path
    as_json: bool
    parts: list[Part] = field(default_factory=list)
    address: KafkaAddress = field(init=False)
    environment: dict[str, str] = field(init=False)

    async def run(self) -> bool:
        """True if the task ran once, as its own file says."""
        self.title("1. A tasks file says which Celery task runs when which triggers have arrived")
        for line in (self.place / "survey.json").read_text().splitlines():
            self.print_line(line)
        async with AsyncExitStack() as stack:
            self.title("2. Kafka, a Celery broker, topics, and the tasks file in every partition")
            bootstrap_servers = stack.enter_context(a_kafka(self.place))
            self.address = KafkaAddress(bootstrap=bootstrap_servers, app=AppId(f"demo-{uuid4().hex[:8]}"))
            broker = await start_valkey()
            stack.push_async_callback(broker.child.stop)
            self.environment = _environment(self.place, self.address, broker.url)
            await stack.enter_async_context(topics_gone(self.address))
            await self.command("topics", "create", "--partitions", str(PARTITIONS))
            await self.command("config", "apply", str(self.place / "survey.json"))
            self.title("3. Two workers share the partitions; a bridge, and a Celery worker")
            await self.start_all(stack)
            self.title("4. A producer that is not ours fires triggers, out of order")
            await asyncio.to_thread(self.fire)
            await self.settled()
            self.title("5. The result: why the task ran for one session, and what the other one waits for")
            for session in (COMPLETE, LACKING):
                await self.command("sessions", "explain", session, shown=True)
            for part in reversed(self.parts):
                await part.end()
        return self.verdict()

    async def start_all(self, stack: AsyncExitStack) -> None:
        """Start the four processes, and wait until all are at work."""
        kafka = ("--kafka", self.address.bootstrap, "--app", self.address.app)
        workers = [
            await self.start(
                stack, f"worker {n}", *_OURS, "worker", *kafka, "--dir", str(self.place / f"worker-{n}")
            )
            for n in (1, 2)
        ]
        task = ("--celery", "my_app.tasks:app", "--allow", RUN)
        bridge = await self.start(stack, "bridge", *_OURS, "bridge", *kafka, *task, "--from", "earliest")
        celery = ("-A", "my_app.tasks", "worker", "-c", "1", "-l", "INFO", "--without-gossip")
        celery_worker = await self.start(stack, "Celery worker", "-m", "celery", *celery, "--without-mingle")
        for part in (*workers, bridge):
            await part.wait_for_output(" ready: partitions ")
        await celery_worker.wait_for_output(" ready.")
        for part in self.parts[:-1]:
            self.print_line(next(line for line in reversed(part.lines) if " ready: " in line))

    async def start(self, stack: AsyncExitStack, name: str, *arguments: str) -> Part:
        """Start one process, which ends with this one."""
        lines: list[str] = []
        child = await Child.start(
            [sys.executable, *arguments], output=lines.append, grace_s=_GRACE_S, env=self.environment
        )
        stack.push_async_callback(child.stop)
        part = Part(name, child, lines)
        self.parts.append(part)
        return part

    def fire(self) -> None:
        """Produce with librdkafka's client: it places keys by CRC32, where sessions are placed by murmur2."""
        producer = Producer({"bootstrap.servers": self.address.bootstrap})
        for session, trigger, data in FIRES:
            delivered: list[Message] = []

            def on_delivery(error: object, message: Message, delivered: list[Message] = delivered) -> None:
                if error is None:
                    delivered.append(message)

            value = json.dumps({"type": trigger, "data": data})
            topic = Topics.of(self.address.app).events
            producer.produce(topic, key=session, value=value, on_delivery=on_delivery)
            producer.flush(_GRACE_S)
            if not delivered:
                raise DemoError(f"{topic} did not take {trigger}")
            put, own = delivered[0].partition(), partition_of(session.encode(), PARTITIONS)
            moved = "" if put == own else f", not the session's own: a worker moves it to partition {own}"
            self.print_line(f"{session}  {trigger}  {json.dumps(data)}  put into partition {put}{moved}")

    async def settled(self) -> None:
        """Return once the task's outcome is folded, and what is known of the other session."""
        reader = bootstrap.reader(self.address)
        view = View(reader, app=self.address.app)
        try:
            while True:
                for part in self.parts:
                    part.check()
                complete, lacking = await view.state(COMPLETE), await view.state(LACKING)
                if complete is not None and TASK in complete.seen and lacking is not None:
                    return
                await asyncio.sleep(_POLL_S)
        finally:
            await reader.close()

    async def command(self, *arguments: str, shown: bool = False) -> None:
        """Run a command of ours on the demo's app, and say what it says."""
        more = ["--json"] if self.as_json else []
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *_OURS, *arguments, *more),
            env={**self.environment, "TRIGGERSTREAM_AT": str(self.address)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise DemoError(f"`triggerstream {' '.join(arguments)}` ended with status {process.returncode}")
        if shown:
            click.echo(out.decode(), nl=False)
        else:
            self.print_line(out.decode().rstrip().replace("\n", "\n   "))

    def verdict(self) -> bool:
        """Whether the file that the task itself writes has one line, and it is the right one."""
        results = self.place / "results.jsonl"
        lines = results.read_text().splitlines() if results.exists() else []
        sessions = [json.loads(line)["session"] for line in lines]
        ran = sessions == [COMPLETE]
        if self.as_json:
            counts = {"ran": sessions.count(COMPLETE), "ranForTheOther": sessions.count(LACKING)}
            said = {"app": self.address.app, **counts, "ok": ran}
            click.echo(json.dumps(said))
            return ran
        self.title("6. The file that the task itself wrote")
        for line in lines:
            self.print_line(f"it wrote {line}")
        if ran:
            self.print_line("It ran once, for the session that has both triggers. All processes have ended.")
        else:
            click.echo(f"expected one run, for {COMPLETE}; the task wrote {len(lines)} lines", err=True)
        return ran

    def title(self, title: str) -> None:
        """Print the title of the next step."""
        if not self.as_json:
            click.secho(f"\n{title}", bold=True)

    def print_line(self, line: str) -> None:
        """A line for people."""
        if not self.as_json:
            click.echo(f"   {line}")


_OURS = ("-m", "triggerstream")


def _environment(place: Path, address: KafkaAddress, broker: str) -> dict[str, str]:
    """That of every process: as who develops `my_app` would have it."""
    kept: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if not name.startswith(("TRIGGER", "CELERY"))
    }
    path = [str(place), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "CELERY_BROKER_URL": broker,
        variables.LOG: str(address),
        "SURVEY_RESULTS": str(place / "results.jsonl"),
    }


async def _run(place: Path, *, as_json: bool) -> bool:
    demo = Demo(place, as_json)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await demo.run()
    except (DemoError, TimeoutError, TriggerstreamError) as exc:
        for part in demo.parts:
            for line in part.lines[-_LINES:]:
                click.echo(f"{part.name}: {line}", err=True)
        reason = str(exc) or f"the task has not finished within {DEADLINE_S:g} s"
        click.echo(reason, err=True)
        return False


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def main(*, as_json: bool) -> None:
    """Show the whole chain at work. The exit status is 0 only if the task really ran, once."""
    quiet()
    with TemporaryDirectory(prefix="triggerstream-demo-") as name:
        place = Path(name)
        shutil.copytree(SURVEY, place, dirs_exist_ok=True)
        try:
            ran = asyncio.run(_run(place, as_json=as_json))
        except (KafkaUnavailableError, KafkaStartError) as exc:
            raise click.ClickException(str(exc)) from exc
    sys.exit(0 if ran else 1)


if __name__ == "__main__":
    main()
