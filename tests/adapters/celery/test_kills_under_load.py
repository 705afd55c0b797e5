"""Children and whole workers killed with -9 at random under load: every command has an end.

Some tasks return something that no event can hold, or a signature that nobody applies: each fails, once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace
from redis import Redis
from sqlalchemy import create_engine, text

from tests.adapters.celery.conftest import FINAL, Farm, KeptWorker, command, make_farm
from tests.support.descendants import descendants
from tests.support.postgres import postgres_server
from tests.support.rabbitmq import rabbitmq_node
from tests.support.waiting import eventually
from triggerstream.core.commands import Command

pytestmark = [pytest.mark.celery, pytest.mark.faults, pytest.mark.timeout(900)]

COMMANDS = 400
CHILD_KILLS = 80
WHOLE_KILLS = 4
"""One in twenty of the kills is that of a whole worker, which takes all that its children run with it."""
QUIET_S = 15.0
"""Longer than a worker takes to begin, and than Valkey takes to deliver again."""


@dataclass(kw_only=True)
class Kills:
    """The kills: one random process each time that a few more events are in the log."""

    farm: Farm
    worker: KeptWorker
    random: Random
    children: int = 0
    whole: int = 0

    def run(self, ends: threading.Event) -> None:
        after = 0
        while not ends.wait(0.05) and self.children < CHILD_KILLS:
            if len(self.farm.log.all()) < after:
                continue
            main = self.worker.pid
            if main is None:
                continue
            children = list(descendants(main))
            if not children:
                continue
            after = len(self.farm.log.all()) + self.random.randint(2, 12)
            whole = self.whole < WHOLE_KILLS and self.random.randrange(20) == 0
            with suppress(ProcessLookupError):
                if whole:
                    os.killpg(main, signal.SIGKILL)
                    self.whole += 1
                else:
                    os.kill(self.random.choice(children), signal.SIGKILL)
                    self.children += 1


@contextmanager
def kills(farm: Farm, worker: KeptWorker, *, seed: int) -> Iterator[Kills]:
    made, ends = Kills(farm=farm, worker=worker, random=Random(seed)), threading.Event()
    thread = threading.Thread(target=made.run, args=(ends,))
    thread.start()
    try:
        yield made
    finally:
        ends.set()
        thread.join()


@pytest.fixture(params=["valkey", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "valkey":
        yield None
        return
    with rabbitmq_node() as node:
        yield node.url


def result_asked(number: int) -> str | None:
    """The odd result of the command ``number``, if it has one: two in ten."""
    return {3: "object", 7: "signature"}.get(number % 10)


def check_not_reported(farm: Farm, one: Command, number: int) -> None:
    """Check that a command whose result cannot be reported failed for it, and that its result did not run."""
    ends = [event for event in farm.log.events(one.session) if event["type"].endswith(".failed")]
    assert {event["data"]["reason"] for event in ends} <= {"result not reportable", "worker lost"}
    assert not (farm.home / f"sub-n{number}").exists()


class Idle:
    """True once Valkey has held no message, waiting or given to a worker, for some time."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._since = time.monotonic()

    def __call__(self) -> bool:
        with Redis.from_url(self._farm.broker) as client:
            if client.exists(self._farm.queue, "unacked"):
                self._since = time.monotonic()
        return time.monotonic() - self._since > QUIET_S


async def run_all(farm: Farm, sent: list[Command]) -> tuple[dict[str, list[str]], int]:
    """Dispatch all of ``sent``; by session, the outcomes that were reported, once each has one.

    With it, how many were sent again, as `instances resend` does. Only Valkey loses messages: kombu takes one
    out and notes then that a worker has it, and a worker can be killed in between.
    """
    await asyncio.gather(*map(farm.dispatcher.dispatch, sent))

    def outcomes() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {one.session: [] for one in sent}
        for event in farm.log.all():
            kind = event["type"].removeprefix("triggerstream.task.")
            if kind in FINAL:
                found[event["session"]].append(kind)
        return found

    def ended() -> bool:
        return all(outcomes().values())

    def said() -> str:
        return farm.said()[-5_000:]

    if farm.broker.startswith("amqp"):
        await eventually(ended, within_s=600, what=said)
        await eventually(lambda: farm.waiting() == [], within_s=120)
        return outcomes(), 0
    idle = Idle(farm)
    await eventually(lambda: idle() or ended(), within_s=600, what=said)
    lost = [one for one in sent if not outcomes()[one.session]]
    for one in lost:
        await farm.dispatcher.dispatch(replace(one, attempt=1))
    await eventually(ended, within_s=120, what=said)
    await eventually(Idle(farm), within_s=120, what=said)
    return outcomes(), len(lost)


def print_row(what: str, made: Kills, starts: int, outcomes: dict[str, list[str]], extra: str) -> None:
    first = Counter(kinds[0] for kinds in outcomes.values())
    print(  # noqa: T201 - the row of `docs/reliability.md`
        f"\n{what}: {len(outcomes)} commands, {made.children} children and {made.whole} workers killed; "
        f"{starts} starts; {dict(first)}; {extra}"
    )


async def test_every_command_has_one_end_and_its_effect_once_with_a_guard(
    broker: str | None, tmp_path: Path
) -> None:
    with postgres_server() as url, make_farm(tmp_path, broker=broker, TEST_GUARD=url) as farm:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE effects (name TEXT, command TEXT)"))
        worker = farm.kept_worker("-c", "4", TEST_LEASE="2", TEST_VISIBILITY="10")
        sent = [
            command("takes_effect", name=f"n{n}", pauses=0.05, returns=result_asked(n))
            for n in range(COMMANDS)
        ]
        with kills(farm, worker, seed=1) as made:
            outcomes, resent = await run_all(farm, sent)
        with engine.connect() as connection:
            took = Counter(row[0] for row in connection.execute(text("SELECT command FROM effects")))
        engine.dispose()
    starts = sum(event["type"].endswith(".started") for event in farm.log.all())
    doubled = sum(count > 1 for count in took.values())
    print_row(
        "with a guard", made, starts, outcomes, f"{len(took)} effects, {doubled} doubled, {resent} resent"
    )
    assert made.children > COMMANDS // 20
    assert resent <= made.whole
    for number, one in enumerate(sent):
        (kind,) = set(outcomes[one.session])  # however often it was reported
        assert kind in {"finished", "failed"}
        assert took[one.id] == (1 if kind == "finished" else 0)
        if result_asked(number):
            assert kind == "failed"
            check_not_reported(farm, one, number)


async def test_every_command_has_an_end_without_a_guard_after_a_bounded_number_of_starts(
    broker: str | None, tmp_path: Path
) -> None:
    """One in ten ends its own process each time; two return what cannot be reported."""
    with make_farm(tmp_path, broker=broker) as farm:
        worker = farm.kept_worker("-c", "4", TEST_VISIBILITY="10")
        sent = [
            command(
                "dies",
                name=f"n{n}",
                times=99 if n % 10 == 0 else 0,
                pauses=0.05,
                returns=result_asked(n),
            )
            for n in range(COMMANDS // 2)
        ]
        with kills(farm, worker, seed=2) as made:
            outcomes, resent = await run_all(farm, sent)
        starts = Counter(e["session"] for e in farm.log.all() if e["type"].endswith(".started"))
    print_row(
        "without a guard",
        made,
        sum(starts.values()),
        outcomes,
        f"at most {max(starts.values())} starts, {resent} resent",
    )
    assert resent <= made.whole
    for number, one in enumerate(sent):
        if number % 10 == 0:
            assert set(outcomes[one.session]) == {"failed"}
        if result_asked(number):
            assert set(outcomes[one.session]) == {"failed"}
            check_not_reported(farm, one, number)
        # A worker that is killed between sending a message anew and acknowledging it leaves two.
        assert starts[one.session] <= 4 * (1 + made.whole)
