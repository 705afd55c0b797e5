"""Every process of the Kafka engine is killed, stopped, robbed of its store and moved about under load.

The oracle counts rows of a table without a key, and reads the commands topic as any consumer would: 0 lost,
0 invented, 0 second effects. `make test` has the short form, on one chain that lives through all of it;
`make faults` the long one, and the proof that the oracle can fail: workers without transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from random import Random

import pytest

from tests.acceptance.chain import faults
from tests.acceptance.chain.oracle import EXACT
from tests.acceptance.chain.plan import Plan
from tests.acceptance.chain.report import Row, table
from tests.acceptance.chain.rig import PARTITIONS, Rig, rig
from tests.acceptance.chain.timed import TIMED_TASKS, TimedPlan, misdated
from tests.support.kafka.cluster import kafka_cluster
from tests.support.postgres import postgres_bin, postgres_server


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The faults while the events of ``sessions`` sessions arrive, over about ``seconds``.

    ``named`` workers keep their name in the group over a crash, and are back at once.
    """

    name: str
    happens: Callable[[Rig], int]
    sessions: int
    seconds: float
    workers: int = 2
    named: bool = False

    def run(self, chain: Rig, *, seed: int = 1, of: type[Plan] = Plan) -> Row:
        """Have it happen."""
        chain.use(named=self.named)
        plan = of(name=self.name.replace(" ", "_"), sessions=self.sessions, seed=seed)
        return chain.run(plan, lambda: self.happens(chain), seconds=self.seconds, workers=self.workers)


def killed_and_stopped(chain: Rig) -> int:
    """The faults of the negative control as well."""
    count = faults.stops(chain, count=3)
    return count + faults.kills(chain, count=12, chance=Random(7), pause_s=2)


SHORT = (
    Scenario(
        name="kill -9",
        happens=lambda chain: faults.kills(chain, count=3, chance=Random(1), pause_s=1),
        sessions=60,
        seconds=8,
    ),
    Scenario(name="stopped", happens=lambda chain: faults.stops(chain, count=1), sessions=60, seconds=10),
    Scenario(
        name="changes",
        happens=lambda chain: faults.changes(chain, (3, 1, 2), calm_s=0.5),
        sessions=60,
        seconds=8,
        workers=1,
    ),
    Scenario(
        name="storm",
        happens=lambda chain: faults.storm(chain, count=6, chance=Random(2)),
        sessions=60,
        seconds=6,
    ),
    Scenario(
        name="bridge",
        happens=lambda chain: faults.bridge_deaths(chain, (10,)),
        sessions=60,
        seconds=6,
    ),
    Scenario(
        name="tasks",
        happens=lambda chain: faults.task_deaths(
            chain, ("child-before", "child-after", "main-after"), pause_s=0
        ),
        sessions=60,
        seconds=6,
    ),
    Scenario(
        name="store wiped",
        happens=lambda chain: faults.wipes(chain, count=3, pause_s=0.5),
        sessions=60,
        seconds=8,
        named=True,
    ),
)
LONG = (
    Scenario(
        name="kill -9 long",
        happens=lambda chain: faults.kills(chain, count=30, chance=Random(3), pause_s=2),
        sessions=2_000,
        seconds=60,
    ),
    Scenario(
        name="points long",
        happens=lambda chain: faults.points(chain, *chain.workers[:2], wiped=False),
        sessions=2_000,
        seconds=100,
    ),
    Scenario(
        name="points with stores wiped long",
        happens=lambda chain: faults.points(chain, *chain.workers[1::-1], wiped=True),
        sessions=2_000,
        seconds=100,
    ),
    Scenario(
        name="points of named workers long",
        happens=lambda chain: faults.points(chain, *chain.workers[:2], wiped=True),
        sessions=2_000,
        seconds=40,
        named=True,
    ),
    Scenario(
        name="store wiped long",
        happens=lambda chain: faults.wipes(chain, count=9, pause_s=2),
        sessions=2_000,
        seconds=90,
    ),
    Scenario(
        name="stopped long", happens=lambda chain: faults.stops(chain, count=6), sessions=2_000, seconds=100
    ),
    Scenario(
        name="changes long",
        happens=lambda chain: faults.changes(chain, (2, 3, 2, 1, 3, 1), calm_s=5),
        sessions=2_000,
        seconds=60,
        workers=1,
    ),
    Scenario(
        name="storm long",
        happens=lambda chain: sum(faults.storm(chain, count=10, chance=Random(n)) for n in range(4)),
        sessions=2_000,
        seconds=40,
    ),
    Scenario(
        name="bridge long",
        happens=lambda chain: faults.bridge_deaths(chain, (1, 7, 40, 2, 90, 15, 3, 60)),
        sessions=2_000,
        seconds=90,
    ),
    Scenario(
        name="tasks long",
        happens=lambda chain: faults.task_deaths(chain, faults.TASK_DEATHS * 4, pause_s=0.5),
        sessions=2_000,
        seconds=90,
    ),
)


def killed_stopped_and_moved(chain: Rig) -> int:
    """One or a few of each fault, so that timers are due at dead, frozen and former owners."""
    count = faults.kills(chain, count=2, chance=Random(8), pause_s=0.5)
    return count + faults.stops(chain, count=1) + faults.changes(chain, (1, 2), calm_s=0)


TIMED = Scenario(name="due", happens=killed_stopped_and_moved, sessions=60, seconds=10)
TIMED_LONG = tuple(
    # Each session has ten commands instead of one or two.
    replace(one, sessions=600)
    for one in LONG
    if one.name in {"kill -9 long", "points long", "stopped long", "storm long"}
)
CONTROL = Scenario(name="killed and stopped", happens=killed_and_stopped, sessions=2_000, seconds=70)


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    """The file of results, which are printed at the end even if output is captured."""
    found: list[Row] = []
    yield found
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    if found and capture is not None and terminal is not None:
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            for line in ("", *table(found)):
                terminal.write_line(line)


@pytest.fixture(scope="module")
def chain(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(kafka, tmp_path_factory.mktemp("chain")) as made:
        made.prepare()
        yield made


@pytest.fixture(scope="module")
def long_chain(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Effects in a PostgreSQL where there is one."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server()) if postgres_bin() else None
        made = stack.enter_context(rig(kafka, tmp_path_factory.mktemp("long"), database=database))
        made.prepare()
        yield made


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.celery
@pytest.mark.parametrize("scenario", SHORT, ids=[one.name for one in SHORT])
def test_nothing_is_lost_or_invented_or_takes_effect_twice(
    chain: Rig, rows: list[Row], scenario: Scenario
) -> None:
    row = scenario.run(chain)
    rows.append(row)
    assert row.effects == EXACT
    assert row.commands == EXACT


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", LONG, ids=[one.name for one in LONG])
def test_nothing_is_lost_or_invented_or_takes_effect_twice_under_20_000_events(
    long_chain: Rig, rows: list[Row], scenario: Scenario
) -> None:
    row = scenario.run(long_chain, seed=2)
    rows.append(row)
    assert row.effects == EXACT
    assert row.commands == EXACT


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.celery
def test_each_timer_fires_once_and_at_its_due_time(
    kafka: str, tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    with rig(kafka, tmp_path_factory.mktemp("timed"), tasks=TIMED_TASKS) as made:
        made.prepare()
        row = TIMED.run(made, of=TimedPlan)
        rows.append(row)
        assert row.effects == EXACT
        assert row.commands == EXACT
        assert misdated(made.connection, made.app, made.plans[0], partitions=PARTITIONS) == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", TIMED_LONG, ids=[one.name for one in TIMED_LONG])
def test_each_timer_fires_once_and_at_its_due_time_under_6_000_events(
    kafka: str, tmp_path_factory: pytest.TempPathFactory, rows: list[Row], scenario: Scenario
) -> None:
    with rig(kafka, tmp_path_factory.mktemp("timed"), tasks=TIMED_TASKS) as made:
        made.prepare()
        row = scenario.run(made, seed=3, of=TimedPlan).named(f"{scenario.name}, with timers")
        rows.append(row)
        assert row.effects == EXACT
        assert row.commands == EXACT
        assert misdated(made.connection, made.app, made.plans[0], partitions=PARTITIONS) == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("needs_kafka")
def test_brokers_that_restart_or_die_lose_invent_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("brokers")
    with kafka_cluster(folder) as cluster, rig(cluster.bootstrap, folder / "chain") as made:
        made.prepare()
        scenario = Scenario(
            name="brokers",
            happens=lambda chain: faults.broker_ends(chain, cluster, pause_s=8),
            sessions=2_000,
            seconds=150,
        )
        row = scenario.run(made)
    rows.append(row)
    assert row.effects == EXACT
    assert row.commands == EXACT


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("transacted", [True, False], ids=["with transactions", "without transactions"])
def test_the_same_kills_without_transactions_lose_or_double_commands(
    kafka: str, tmp_path_factory: pytest.TempPathFactory, rows: list[Row], *, transacted: bool
) -> None:
    with rig(kafka, tmp_path_factory.mktemp("control"), transacted=transacted) as made:
        made.prepare()
        row = CONTROL.run(made)
    rows.append(row if transacted else row.named(f"{row.scenario}, without transactions"))
    assert (row.commands == EXACT) is transacted
