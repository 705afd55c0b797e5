"""`triggerstream doctor`: check everything that an engine needs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from triggerstream import variables
from triggerstream.cli.opening import existing, quiet, run
from triggerstream.cli.options import at_option, json_option
from triggerstream.cli.printing import json_line, print_line
from triggerstream.core import advice
from triggerstream.core.errors import TriggerstreamError, UsageError
from triggerstream.core.ids import JsonObject
from triggerstream.engine.ports import Reader
from triggerstream.settings import Address, locate

_PACKAGES = ("celery", "kombu", "faust-streaming", "aiokafka", "rocksdict", "redis", "sqlalchemy", "psycopg")
_AHEAD_S = 1.0
"""The most by which an event's arrival may be later than now if the clocks are right."""
_TAIL = 50
"""Offsets to search back for the newest event: the last ones may be transaction markers."""
_COUNTED = 1_000
"""The most events that are counted in a partition."""
_BROKER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: its subject, whether it passed, and what was seen or has to be done."""

    what: str
    well: bool
    says: str


@click.command()
@click.option(
    "--broker",
    metavar="URL",
    envvar=variables.CELERY_BROKER,
    show_envvar=True,
    help="A Celery broker to check as well.",
)
@at_option
@json_option
def doctor(*, broker: str | None, at: str, as_json: bool) -> None:
    """Check that everything an engine needs is there. The exit status is 1 if something is missing or wrong.

    Nothing is changed. On Kafka: the cluster, the topics, the configuration, the progress of
    workers and bridge, the clocks; otherwise the same for the database.
    """

    async def work() -> bool:
        well = True
        async for finding in _findings(at, broker):
            well = well and finding.well
            _print_finding(finding, as_json=as_json)
        return well

    if not run(work()):
        sys.exit(1)


def _print_finding(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        fields: JsonObject = {"what": finding.what, "well": finding.well, "says": finding.says}
        json_line(fields)
    else:
        print_line(f"{'ok ' if finding.well else 'NOT'} {finding.what:<13} {finding.says}")


async def _findings(at: str, broker: str | None) -> AsyncIterator[Finding]:
    yield Finding(what="packages", well=True, says=_packages())
    address = locate(at)
    async for finding in _cluster(address) if address.administered else _embedded(at):
        yield finding
    if broker is not None:
        yield await asyncio.to_thread(_celery, broker)


def _packages() -> str:
    found = []
    for name in ("triggerstream", *_PACKAGES):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


async def _cluster(address: Address) -> AsyncIterator[Finding]:
    from triggerstream import bootstrap
    from triggerstream.engine.operations.administration import Severity

    quiet()
    try:
        administration = bootstrap.administration(address)
        reached = await administration.reach()
        brokers = "1 broker" if reached.brokers == 1 else f"{reached.brokers} brokers"
        yield Finding(
            what="Kafka", well=True, says=f"{administration.servers}: cluster {reached.cluster}, {brokers}"
        )
        findings = await administration.check_topics()
        broken = False
        for finding in findings:
            error = finding.severity is Severity.ERROR
            broken = broken or error
            yield Finding(what="topics", well=not error, says=str(finding))
        if broken:
            return
        count = await administration.partitions()
        async for one in administration.unusable_checkpoints():
            broken = True
            yield Finding(what="checkpoints", well=False, says=one)
        if broken:
            return
        if not findings:
            yield Finding(what="topics", well=True, says=f"as they must be, {count} partitions")
        reader = bootstrap.reader(address)
        try:
            async for seen in _folded(reader, count, apply=advice.apply_first_file(str(address), kafka=True)):
                yield seen
        finally:
            await reader.close()
        found = await administration.not_handed_over()
        says = (
            "none has handed anything over yet"
            if found is None
            else f"at most {found.left} commands to hand over"
        )
        held = found is not None and found.held
        if held:
            says += (
                ", and later ones are already: the Celery broker refuses a queue, or it is full; the "
                "bridge's log names the queue and the reason"
            )
        yield Finding(what="bridge", well=not held, says=says)
    except TriggerstreamError as exc:
        yield Finding(what="Kafka", well=False, says=str(exc))


async def _embedded(at: str) -> AsyncIterator[Finding]:
    from triggerstream import bootstrap

    try:
        address = existing(at)
        reader = bootstrap.reader(address)
        try:
            yield Finding(what="database", well=True, says=str(address))
            async for seen in _folded(reader, 1, apply=advice.apply_first_file(at, kafka=False)):
                yield seen
        finally:
            await reader.close()
    except TriggerstreamError as exc:
        yield Finding(what="database", well=False, says=str(exc))


async def _folded(reader: Reader, partitions: int, *, apply: str) -> AsyncIterator[Finding]:
    """The configuration in force, how much waits to be folded, and the clocks."""
    hashes: set[str | None] = set()
    lag, more, newest_us = 0, False, 0
    for partition in range(partitions):
        texts = await reader.configurations(partition=partition)
        hashes.add(texts[-1].hash if texts else None)
        progress = await reader.progress(partition=partition)
        # Offsets alone do not tell: the mark of a transaction has one too, and may be the last of the log.
        left = await reader.records(after=progress.offset - 1, limit=_COUNTED, partition=partition)
        lag, more = lag + len(left), more or len(left) == _COUNTED
        last = await reader.records(after=max(progress.end - _TAIL, 0) - 1, limit=_TAIL, partition=partition)
        newest_us = max([newest_us, *(record.arrival_us for record in last)])
    yield _configuration(hashes, apply)
    yield Finding(what="fold", well=True, says=f"{lag}{' or more' if more else ''} events wait to be folded")
    ahead_s = (newest_us - time.time_ns() // 1000) / 1_000_000
    if ahead_s > _AHEAD_S:
        says = f"the newest event arrives {ahead_s:.1f} s from now: set this machine's clock, or the log's"
        yield Finding(what="clocks", well=False, says=says)
    else:
        yield Finding(what="clocks", well=True, says="no event arrives later than now")


def _configuration(hashes: set[str | None], apply: str) -> Finding:
    if len(hashes) > 1:
        says = "partitions have different ones: a worker has not come to the newest, see `fold`"
        return Finding(what="configuration", well=False, says=says)
    (found,) = hashes
    if found is None:
        says = f"no engine has one in force: {apply}; and start an engine"
        return Finding(what="configuration", well=False, says=says)
    return Finding(what="configuration", well=True, says=f"{found[:12]} is in force")


def _celery(broker: str) -> Finding:
    """Whether the Celery broker answers. The URL may contain a password, so only its masked form is shown."""
    from triggerstream import bootstrap

    try:
        app: Any = bootstrap.celery_app(broker)
        with app.connection_for_write(connect_timeout=_BROKER_TIMEOUT_S) as connection:
            connection.ensure_connection(max_retries=1, timeout=_BROKER_TIMEOUT_S)
            return Finding(what="Celery broker", well=True, says=f"{connection.as_uri()} answers")
    except UsageError as exc:
        return Finding(what="Celery broker", well=False, says=str(exc))
    except Exception as exc:  # noqa: BLE001 - each transport has errors of its own, and any is the finding
        return Finding(what="Celery broker", well=False, says=f"does not answer: {type(exc).__name__}: {exc}")
