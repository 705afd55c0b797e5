"""Triggers from five languages: ``make producers``, or ``python -m tests.support.producers --help``.

Builds the clients of ``examples/producers``, starts a Kafka, topics and a worker, and has each client fire
its trigger for the same sessions. ``TRIGGERSTREAM_KAFKA=host:port`` names a cluster to use in place of one of
its own; the topics that it makes there it deletes. All that it starts ends with it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import click
from aiokafka import ConsumerRecord

from tests.adapters.faust.workers import read_all
from tests.support.demo_kafka import DemoError, Part
from tests.support.kafka.server import KafkaStartError, KafkaUnavailableError
from tests.support.kafka.shared import a_kafka, topics_gone
from tests.support.producers.clients import CLIENTS, Client, ProducerError
from triggerstream import bootstrap
from triggerstream.adapters.kafka import config
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.records import record_of
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.cli.dev.children import Child
from triggerstream.cli.opening import quiet
from triggerstream.cli.printing import brief, table
from triggerstream.core.commands import Command
from triggerstream.core.errors import TriggerstreamError
from triggerstream.core.events import Event, Trigger
from triggerstream.core.ids import AppId
from triggerstream.engine.ports import Reader
from triggerstream.settings import KafkaAddress
from triggerstream.wire import commands, events, tasksfile
from triggerstream.wire.events import ORIGIN_HEADER

PARTITIONS = 12
TASK = "t_everybody"
DEADLINE_S = 600.0
"""It takes 20 s on an idle machine once the clients are built; a loaded one may need many times that."""
_POLL_S = 0.1
_GRACE_S = 30.0
_LINES = 15


def names(count: int) -> list[str]:
    """Sessions to fire for. A key is UTF-8 in every language, therefore the first is not ASCII."""
    return ["participant-Zoë", *(f"participant-{n}" for n in range(1, count))]


@dataclass(slots=True)
class Show:
    """One run; what went wrong is in ``errors``, a line each."""

    sessions: Sequence[str]
    as_json: bool
    quick: bool = False
    """Leave out the clients whose build takes long, unless they are built already."""
    errors: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    async def run(self, place: Path) -> None:
        """Have the clients fire, and look at what came of it."""
        self.title("1. Clients, built from examples/producers")
        clients = [client for client in CLIENTS if self.ready(client)]
        if not clients:
            return
        self.title(
            f"2. Kafka, topics with {PARTITIONS} partitions, a worker, and a task that waits for all of them"
        )
        async with AsyncExitStack() as stack:
            address = KafkaAddress(
                bootstrap=stack.enter_context(a_kafka(place)), app=AppId(f"producers-{uuid4().hex[:8]}")
            )
            await stack.enter_async_context(topics_gone(address))
            worker = await self.prepare(stack, place, address, clients)
            self.title(f"3. Each client fires its trigger for the same {len(self.sessions)} sessions")
            fired = [client for client in clients if await asyncio.to_thread(self.fire, client, address)]
            await _settled(address, worker)
            self.title("4. The decisions of the worker")
            await self.look(address, fired)
            await worker.end()

    def ready(self, client: Client) -> bool:
        """Whether ``client`` can fire; if not, why is said."""
        if (why := client.left_out(quick=self.quick)) is not None:
            self.fail(f"{client.language}: left out, {why}")
            return False
        begun = time.monotonic()
        try:
            made = client.make()
        except ProducerError as exc:
            self.fail(str(exc))
            return False
        how = f"built in {time.monotonic() - begun:.0f} s" if made else "ready"
        self.print_line(f"{client.language:<7} {client.library:<16} {how}")
        return True

    async def prepare(
        self, stack: AsyncExitStack, place: Path, address: KafkaAddress, clients: Sequence[Client]
    ) -> Part:
        """Make topics and tasks, and start the worker."""
        tasks = json.dumps(
            {TASK: {"after": [client.trigger for client in clients], "run": "my_app.tasks.greet"}}
        )
        connection = Connection(bootstrap=address.bootstrap)
        await create(connection, address.app, partitions=PARTITIONS)
        await config.apply(connection, address.app, tasksfile.read(tasks, name="tasks"))
        self.print_line(tasks)
        kafka = ("--kafka", address.bootstrap, "--app", address.app, "--dir", str(place / "worker"))
        lines: list[str] = []
        command = [sys.executable, "-m", "triggerstream", "worker", *kafka]
        child = await Child.start(command, output=lines.append, grace_s=_GRACE_S)
        stack.push_async_callback(child.stop)
        worker = Part("worker", child, lines)
        self.parts.append(worker)
        await worker.wait_for_output(" ready: partitions ")
        return worker

    def fire(self, client: Client, address: KafkaAddress) -> bool:
        """Whether all of the client's events were acknowledged; if not, why is said."""
        begun = time.monotonic()
        try:
            client.fire(bootstrap=address.bootstrap, app=address.app, sessions=self.sessions)
        except ProducerError as exc:
            self.fail(str(exc))
            return False
        self.print_line(
            f"{client.language:<7} {client.trigger:<14} acknowledged in {time.monotonic() - begun:.1f} s"
        )
        return True

    async def look(self, address: KafkaAddress, clients: Sequence[Client]) -> None:
        """Print what is in the log and in the commands."""
        connection, topics = Connection(bootstrap=address.bootstrap), Topics.of(address.app)
        log = await read_all(connection, topics.events, PARTITIONS)
        moved = _moved(record for records in log.values() for record in records)
        rows = [(client, moved[client.trigger]) for client in clients]
        found = await read_all(connection, topics.commands, PARTITIONS)
        decided = [commands.decode(record.value) for records in found.values() for record in records]
        runs = [decision for decision in decided if isinstance(decision, Command)]
        counts = Counter(str(command.session) for command in runs)
        once = sum(counts[session] == 1 for session in self.sessions)
        ok = once == len(self.sessions) == len(decided)
        if self.as_json:
            for client, count in rows:
                click.echo(json.dumps({**_fields(client), "records": len(self.sessions), "rehomed": count}))
            verdict = {
                "app": address.app,
                "sessions": len(self.sessions),
                "decided": len(decided),
                "once": once,
            }
            click.echo(json.dumps(verdict))
        else:
            columns = ["language", "client", "places keys by", "records", "re-homed"]
            cells = [[c.language, c.library, c.hash, str(len(self.sessions)), str(n)] for c, n in rows]
            table(columns, cells)
            for command in runs:
                if command.session == self.sessions[0]:
                    self.print_line(
                        f"{command.session}: {command.instance} is decided, with {brief(command.kwargs, 400)}"
                    )
            self.print_line(
                f"{len(self.sessions)} sessions, {len(decided)} commands; decided exactly once: {once}"
            )
        if not ok:
            self.fail(f"{len(self.sessions)} sessions have {len(decided)} commands; {once} have exactly one")

    def fail(self, why: str) -> None:
        """A line of what went wrong."""
        self.errors.append(why)
        click.echo(why, err=True)

    def title(self, title: str) -> None:
        """Print the title of the next step."""
        if not self.as_json:
            click.secho(f"\n{title}", bold=True)

    def print_line(self, line: str) -> None:
        """A line for people."""
        if not self.as_json:
            click.echo(f"   {line}")


def _fields(client: Client) -> dict[str, str]:
    return {"language": client.language, "client": client.library, "hash": client.hash}


def _moved(records: Iterable[ConsumerRecord]) -> Counter[str]:
    """How many records of each trigger were re-homed. One that was moved twice counts once."""
    origins: dict[bytes, str] = {}
    for record in records:
        origin = dict(record.headers).get(ORIGIN_HEADER)
        event = None if origin is None else events.decode(record_of(record))
        if origin is not None and isinstance(event, Event) and isinstance(event.body, Trigger):
            origins[origin] = event.body.name
    return Counter(origins.values())


async def _settled(address: KafkaAddress, worker: Part) -> None:
    """Return once everything in the log is folded.

    Two looks in a row must say so: what the first one saw folded late may have been re-homed to a partition
    that it had looked at before. A re-homed record is not moved again.
    """
    reader = bootstrap.reader(address)
    looks = 0
    try:
        while looks < 2:
            worker.check()
            left = [await _unfolded(reader, partition) for partition in range(PARTITIONS)]
            looks = 0 if any(left) else looks + 1
            await asyncio.sleep(_POLL_S)
    finally:
        await reader.close()


async def _unfolded(reader: Reader, partition: int) -> bool:
    """Whether the log has records beyond what is folded. An offset may be that of a transaction's mark."""
    progress = await reader.progress(partition=partition)
    return bool(await reader.records(after=progress.offset - 1, limit=1, partition=partition))


async def _run(show: Show, place: Path) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            await show.run(place)
    except (DemoError, TimeoutError, TriggerstreamError) as exc:
        for part in show.parts:
            for line in part.lines[-_LINES:]:
                click.echo(f"{part.name}: {line}", err=True)
        show.fail(str(exc) or f"it has not ended within {DEADLINE_S:g} s")


@click.command()
@click.option("--sessions", default=200, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@click.option("--quick", is_flag=True, help="Leave out clients whose build would take more than a minute.")
def main(*, sessions: int, as_json: bool, quick: bool) -> None:
    """Have clients of five languages fire, for the same sessions.

    The exit status is 0 only if all could, and the task of each session was decided exactly once.
    """
    quiet()
    show = Show(sessions=names(sessions), as_json=as_json, quick=quick)
    with TemporaryDirectory(prefix="triggerstream-producers-") as name:
        try:
            asyncio.run(_run(show, Path(name)))
        except (KafkaUnavailableError, KafkaStartError) as exc:
            raise click.ClickException(str(exc)) from exc
    sys.exit(1 if show.errors else 0)


if __name__ == "__main__":
    main()
