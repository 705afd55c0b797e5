"""`triggerstream doctor`: check everything that an engine needs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import click

from triggerstream import variables
from triggerstream.cli.opening import existing, quiet, run
from triggerstream.cli.options import at_option, json_option
from triggerstream.cli.printing import count_of, json_line, print_line
from triggerstream.core import advice
from triggerstream.core.errors import DecodeError, TriggerstreamError, UsageError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import AppId, JsonObject
from triggerstream.core.listing import failures, stuck_since
from triggerstream.core.projections import SILENT_US
from triggerstream.core.state import Status
from triggerstream.engine.operations.executor_workers import HeardWorker, tasks_without_worker
from triggerstream.engine.ports import Reader
from triggerstream.engine.queries.view import View
from triggerstream.present import words
from triggerstream.settings import Address, SqliteAddress, locate
from triggerstream.wire.events import decode
from triggerstream.wire.instants import format_instant
from triggerstream.wire.records import Record

if TYPE_CHECKING:
    from triggerstream.engine.operations.administration import Administration

_PACKAGES = ("celery", "kombu", "faust-streaming", "aiokafka", "rocksdict", "redis", "sqlalchemy", "psycopg")
_COUNTED = 1_000
"""The most events that are counted in a partition."""
_BROKER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorCheck:
    """One check: its subject, whether it passed, and what was seen or has to be done."""

    what: str
    well: bool
    says: str


@click.command()
@click.option(
    "--workers",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="The number of workers that should run, on Kafka.",
)
@click.option(
    "--broker",
    metavar="URL",
    envvar=variables.CELERY_BROKER,
    show_envvar=True,
    help="A Celery broker to check as well.",
)
@at_option
@json_option
def doctor(*, workers: int, broker: str | None, at: str, as_json: bool) -> None:
    """Check that everything an engine needs is there. The exit status is 1 if something is missing or wrong.

    Nothing is changed. On Kafka: the cluster, the topics, the configuration, open transactions, the workers
    and the bridge with their partitions and progress, the clocks; otherwise the same for the database. Then
    instances that failed or that no worker has reported about, and dead letters. With --broker: the Celery
    broker, and the Celery workers that answer.
    """

    async def work() -> bool:
        well = True
        async for check in _checks(at, broker, workers):
            well = well and check.well
            _print_check(check, as_json=as_json)
        return well

    if not run(work()):
        sys.exit(1)


def _print_check(check: DoctorCheck, *, as_json: bool) -> None:
    if as_json:
        fields: JsonObject = {"what": check.what, "well": check.well, "says": check.says}
        json_line(fields)
    else:
        print_line(f"{'ok ' if check.well else 'NOT'} {check.what:<13} {check.says}")


async def _checks(at: str, broker: str | None, workers: int) -> AsyncIterator[DoctorCheck]:
    yield DoctorCheck(what="packages", well=True, says=_packages())
    address = locate(at)
    runs: set[str] = set()
    async for finding in _cluster(address, workers, runs) if address.administered else _embedded(at, runs):
        yield finding
    if broker is not None:
        for finding in await asyncio.to_thread(_celery, broker, runs):
            yield finding


def _packages() -> str:
    found = []
    for name in ("triggerstream", *_PACKAGES):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


async def _cluster(address: Address, workers: int, runs: set[str]) -> AsyncIterator[DoctorCheck]:
    from triggerstream import bootstrap
    from triggerstream.engine.operations.administration import Severity

    quiet()
    try:
        administration = bootstrap.administration(address)
        reached = await administration.reach()
        brokers = count_of(reached.brokers, "broker")
        yield DoctorCheck(
            what="Kafka", well=True, says=f"{administration.servers}: cluster {reached.cluster}, {brokers}"
        )
        findings = await administration.check_topics()
        broken = False
        for finding in findings:
            error = finding.severity is Severity.ERROR
            broken = broken or error
            yield DoctorCheck(what="topics", well=not error, says=str(finding))
        if broken:
            return
        count = await administration.partitions()
        async for one in administration.unusable_checkpoints():
            yield DoctorCheck(what="checkpoints", well=False, says=one)
        if not findings:
            yield DoctorCheck(
                what="topics", well=True, says=f"as they must be, {count_of(count, 'partition')}"
            )
    except TriggerstreamError as exc:
        yield DoctorCheck(what="Kafka", well=False, says=str(exc))
        return
    reader = bootstrap.reader(address)
    apply = advice.apply_first_file(str(address), kafka=True)
    try:
        for what, parts in (
            ("events", _folded(reader, count, address.app, runs, apply=apply, engine="worker")),
            ("transactions", _transactions(administration)),
            ("workers", _processes(administration, count, workers)),
            ("owners", _owners(administration)),
            ("hand-over", _handed_over(administration)),
        ):
            # A question that is refused says nothing about the others.
            try:
                async for part in parts:
                    yield part
            except TriggerstreamError as exc:
                yield DoctorCheck(what=what, well=False, says=str(exc))
    finally:
        await reader.close()


async def _transactions(administration: Administration) -> AsyncIterator[DoctorCheck]:
    """Open transactions of other programs, behind which nobody can read."""
    found = await administration.blocked()
    for one in found:
        named = "" if one.producer is None else f"producer id {one.producer} (epoch {one.epoch}) has had "
        waited_s = max(time.time_ns() // 1000 - one.since_us, 0) / 1_000_000
        yield DoctorCheck(
            what="transactions",
            well=False,
            says=f"{one.topic}, partition {one.partition}: {named}a transaction open since offset "
            f"{one.begin}: {one.records} records wait behind it, the oldest for {waited_s:.0f} s; Kafka's "
            "kafka-transactions.sh can abort it",
        )
    if not found:
        yield DoctorCheck(what="transactions", well=True, says="none is open")


async def _processes(administration: Administration, count: int, workers: int) -> AsyncIterator[DoctorCheck]:
    """Members of the groups, those that seem to be dead, and partitions without an owner."""
    from triggerstream import bootstrap
    from triggerstream.engine.operations.processes import check_group

    for group in await administration.groups():
        is_worker = group.kind == "worker"
        knocks = {}
        if is_worker:
            answers = await asyncio.gather(*(bootstrap.knock(member.url) for member in group.members))
            knocks = {member.id: answer for member, answer in zip(group.members, answers, strict=True)}
        for one in check_group(group, partitions=count, wanted=workers if is_worker else 1, knocks=knocks):
            yield DoctorCheck(what="workers" if is_worker else "bridge", well=one.well, says=one.says)


async def _owners(administration: Administration) -> AsyncIterator[DoctorCheck]:
    """The processes that have claimed partitions. One that was killed stays until others take them over."""
    found = await administration.owners()
    for one in found:
        yield DoctorCheck(what="owners", well=True, says=words.owner(one))
    if not found:
        yield DoctorCheck(what="owners", well=True, says="no partition is claimed")


async def _handed_over(administration: Administration) -> AsyncIterator[DoctorCheck]:
    """The bridge's progress."""
    found = await administration.not_handed_over()
    says = (
        "nothing was handed over yet"
        if found is None
        else f"at most {count_of(found.left, 'command')} to hand over"
    )
    held = found is not None and found.held
    if held:
        says += (
            ", and later ones are already: the Celery broker refuses a queue, or it is full; the "
            "bridge's log names the queue and the reason"
        )
    yield DoctorCheck(what="hand-over", well=not held, says=says)


async def _embedded(at: str, runs: set[str]) -> AsyncIterator[DoctorCheck]:
    from triggerstream import bootstrap

    try:
        address = existing(at)
        reader = bootstrap.reader(address)
        try:
            yield DoctorCheck(what="database", well=True, says=str(address))
            apply = advice.apply_first_file(at, kafka=False)
            refusal = None
            if isinstance(address, SqliteAddress):
                yield _engine(runs=bootstrap.has_engine(address))
                refusal = await asyncio.to_thread(bootstrap.clock_watch(address).describe_refusal)
            parts = _folded(reader, 1, address.app, runs, apply=apply, engine="dev", clock_refusal=refusal)
            async for seen in parts:
                yield seen
        finally:
            await reader.close()
    except TriggerstreamError as exc:
        yield DoctorCheck(what="database", well=False, says=str(exc))


def _engine(*, runs: bool) -> DoctorCheck:
    """The process that works on a database."""
    says = "one runs here" if runs else "no dev runs here: no event is processed until one is started"
    return DoctorCheck(what="engine", well=runs, says=says)


async def _folded(
    reader: Reader,
    partitions: int,
    app: AppId,
    runs: set[str],
    *,
    apply: str,
    engine: str,
    clock_refusal: str | None = None,
) -> AsyncIterator[DoctorCheck]:
    """The configuration in force, how many events wait, the clocks, instances and dead letters.

    ``apply`` is the advice if no tasks file was ever applied, ``engine`` the command that would read one.
    ``clock_refusal``: why no event is accepted, if the log refuses them because of this machine's clock.
    The names of the Celery tasks that the file runs are added to ``runs``.
    """
    from triggerstream.engine.queries.future_arrivals import describe_future, newest_arrival_us

    hashes: set[str | None] = set()
    waits = False
    lag, more, newest_us, now_us = 0, False, 0, time.time_ns() // 1000
    oldest_us = now_us
    for partition in range(partitions):
        texts = await reader.configurations(partition=partition)
        hashes.add(texts[-1].hash if texts else None)
        progress = await reader.progress(partition=partition)
        # Offsets alone do not tell: the mark of a transaction has one too, and may be the last of the log.
        left = await reader.records(after=progress.offset - 1, limit=_COUNTED, partition=partition)
        waits = waits or (not texts and any(_is_configuration(record) for record in left))
        lag, more = lag + len(left) + progress.blocked, more or len(left) == _COUNTED
        oldest_us = min([oldest_us, *(record.arrival_us for record in left[:1])])
        newest_us = max(newest_us, await newest_arrival_us(reader, progress, partition=partition))
    missing = f"no engine has one in force: {apply}; and start an engine"
    if waits:
        missing = f"a tasks file is applied, and no {engine} has read it yet: start a {engine}"
    yield _configuration(hashes, missing)
    says = (
        f"{lag} or more events wait"
        if more
        else f"{count_of(lag, 'event')} {'waits' if lag == 1 else 'wait'}"
    )
    says += " to be processed"
    if oldest_us < now_us:
        says += f", the oldest for {(now_us - oldest_us) / 1_000_000:.0f} s"
    yield DoctorCheck(what="events", well=True, says=says)
    ahead = clock_refusal or describe_future(newest_us)
    yield DoctorCheck(what="clocks", well=ahead is None, says=ahead or "no event arrives later than now")
    view = View(reader, app=app)
    runs.update(task.run for task in (await view.rules()).current.config.tasks)
    yield await _instances(view)
    yield await _dead_letters(reader)


async def _instances(view: View) -> DoctorCheck:
    """Instances that failed, and commands that no worker has reported about for five minutes."""
    silent = stuck_since(time.time_ns() // 1000 - SILENT_US, status=Status.SCHEDULED)
    failed, unheard, example = 0, 0, ""
    async for session, state, _ in view.states():
        failed += len(failures(state))
        count = sum(1 for _ in silent.find(state))
        unheard, example = unheard + count, example or (session if count else "")
    says = f"{failed} failed; {unheard} without a report for more than 5 minutes"
    if unheard:
        says += f", such as one of session {example}: {advice.look_for_silent_workers()}"
    return DoctorCheck(what="instances", well=not unheard, says=says)


async def _dead_letters(reader: Reader) -> DoctorCheck:
    found = await reader.dead_letters(limit=_COUNTED)
    more = " or more" if len(found) == _COUNTED else ""
    says = f"{len(found)}{more}"
    if found:
        says += f", the last of them at {format_instant(found[-1].at_us)}: {advice.list_letters()}"
    return DoctorCheck(what="dead letters", well=True, says=says)


def _is_configuration(record: Record) -> bool:
    try:
        return isinstance(decode(record), ConfigApplied)
    except DecodeError:
        return False


def _configuration(hashes: set[str | None], missing: str) -> DoctorCheck:
    """Check the configuration in force. ``missing``: the text of the result if no configuration is."""
    if len(hashes) > 1:
        says = "partitions have different ones: a worker has not come to the newest, see `events`"
        return DoctorCheck(what="configuration", well=False, says=says)
    (found,) = hashes
    if found is None:
        return DoctorCheck(what="configuration", well=False, says=missing)
    return DoctorCheck(what="configuration", well=True, says=f"{found[:12]} is in force")


def _celery(broker: str, runs: Collection[str]) -> list[DoctorCheck]:
    """Check the Celery broker and its workers, which must have and report the tasks of ``runs``.

    The URL may contain a password, so only its masked form is shown.
    """
    from triggerstream import bootstrap

    what = "Celery broker"
    try:
        app: Any = bootstrap.celery_app(broker)
        with app.connection_for_write(connect_timeout=_BROKER_TIMEOUT_S) as connection:
            connection.ensure_connection(max_retries=1, timeout=_BROKER_TIMEOUT_S)
            answers = DoctorCheck(what=what, well=True, says=f"{connection.as_uri()} answers")
        heard = bootstrap.hear_celery_workers(app)
    except UsageError as exc:
        return [DoctorCheck(what=what, well=False, says=str(exc))]
    except Exception as exc:  # noqa: BLE001 - each transport has errors of its own, and any is the finding
        return [DoctorCheck(what=what, well=False, says=f"does not answer: {type(exc).__name__}: {exc}")]
    return [answers, *_celery_workers(heard, runs)]


def _celery_workers(heard: Sequence[HeardWorker], runs: Collection[str]) -> Iterator[DoctorCheck]:
    what = "Celery workers"
    if not heard:
        says = "none answers; one with worker_enable_remote_control=False does not, though it runs"
        yield DoctorCheck(what=what, well=False, says=says)
        return
    for worker in heard:
        if silent := worker.silent(runs):
            says = (
                f"{worker.name} runs {', '.join(silent)} and reports no outcome: its module must call "
                "triggerstream.celery.install(app, LOG)"
            )
            yield DoctorCheck(what=what, well=False, says=says)
        else:
            has = len(worker.tasks.intersection(runs))
            tasks = count_of(len(set(runs)), "task")
            says = f"{worker.name} answers; it has {has} of the {tasks} that the file runs"
            yield DoctorCheck(what=what, well=True, says=says)
    if missing := tasks_without_worker(heard, runs):
        says = f"no worker that answers has {', '.join(missing)}"
        yield DoctorCheck(what=what, well=False, says=says)
