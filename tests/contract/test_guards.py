"""One suite for every effect guard: SQLite, PostgreSQL, Redis/Valkey."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError

from tests.support.postgres import postgres_server
from tests.support.valkey import valkey_server
from tests.support.waiting import wait_until
from triggerstream.adapters.celery.guards import (
    MAX_TAKEOVERS,
    Busy,
    EffectRefusedError,
    Exhausted,
    Granted,
    Guard,
    GuardUnavailableError,
    Held,
    Settled,
)
from triggerstream.adapters.celery.guards.lease import kept_alive
from triggerstream.adapters.celery.guards.redis import RedisGuard
from triggerstream.adapters.celery.guards.sql import SqlGuard
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import CommandId

pytestmark = pytest.mark.celery

SHORT_S = 0.2
_numbers = count()
MakeGuard = Callable[[float], Guard]
MakeSqlGuard = Callable[..., SqlGuard]


def fresh() -> CommandId:
    return CommandId(f"command-{next(_numbers)}")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="module")
def valkey() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/guard.db"
    return str(request.getfixturevalue("postgres"))


def wait_for_renewals() -> None:
    """Wait until no thread renews a lease: a connection that one has cannot be closed with the others."""
    name = "triggerstream-lease"
    wait_until(lambda: all(thread.name != name for thread in threading.enumerate()), within_s=20)


@pytest.fixture
def make_sql(database: str) -> Iterator[MakeSqlGuard]:
    made: list[SqlGuard] = []

    def make(lease_s: float = 30.0, keep_s: float = 1000.0) -> SqlGuard:
        made.append(SqlGuard(database, lease_s=lease_s, keep_s=keep_s))
        return made[-1]

    yield make
    wait_for_renewals()
    for guard in made:
        guard.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql", "valkey"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeGuard]:
    if request.param == "valkey":
        client = Redis.from_url(request.getfixturevalue("valkey"))
        yield lambda lease_s: RedisGuard(client, lease_s=lease_s)
        client.close()
        return
    sqlite = f"sqlite:///{tmp_path}/guard.db"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres")
    engine = create_engine(url)
    yield lambda lease_s: SqlGuard(engine, lease_s=lease_s)
    wait_for_renewals()
    engine.dispose()


def granted(guard: Guard, command: CommandId, *, holder: str = "me") -> Held:
    claim = guard.claim(command, holder=holder)
    assert isinstance(claim, Granted), claim
    return claim.held


def granted_in_time(guard: Guard, command: CommandId) -> Held:
    """The claim, once the lease before it has expired."""

    def ask() -> Held | None:
        claim = guard.claim(command, holder="me")
        return claim.held if isinstance(claim, Granted) else None

    return wait_until(ask)


# ---- every guard ---------------------------------------------------------------------------------


def test_a_claim_keeps_others_out_until_its_lease_ends(make: MakeGuard) -> None:
    guard, command = make(30), fresh()
    granted(guard, command)
    claim = guard.claim(command, holder="you")
    assert isinstance(claim, Busy)
    assert 0 < claim.for_s <= 30


def test_claims_on_different_commands_do_not_meet(make: MakeGuard) -> None:
    guard = make(30)
    assert granted(guard, fresh()).token != granted(guard, fresh()).token


def test_what_is_settled_is_final(make: MakeGuard) -> None:
    guard, command = make(30), fresh()
    assert guard.recorded(command) is None
    assert granted(guard, command).settle(b'{"first": "\xc3\xa4"}') == b'{"first": "\xc3\xa4"}'
    assert guard.recorded(command) == b'{"first": "\xc3\xa4"}'
    for _ in range(2):
        assert guard.claim(command, holder="you") == Settled(value=b'{"first": "\xc3\xa4"}')
    assert guard.conclude(command, b"{}") == b'{"first": "\xc3\xa4"}'


def test_what_is_undone_is_final_too(make: MakeGuard) -> None:
    guard, command = make(30), fresh()
    assert granted(guard, command).undo(b"failed") == b"failed"
    assert guard.claim(command, holder="you") == Settled(value=b"failed")


def test_a_claim_that_is_given_back_is_granted_at_once(make: MakeGuard) -> None:
    guard, command = make(30), fresh()
    for _ in range(2 * MAX_TAKEOVERS):
        granted(guard, command).release()
    granted(guard, command).settle(b"done")


def test_an_expired_lease_is_taken_over_three_times_and_no_more(make: MakeGuard) -> None:
    guard, command = make(SHORT_S), fresh()
    for _ in range(1 + MAX_TAKEOVERS):
        granted_in_time(guard, command)
    wait_until(lambda: not isinstance(guard.claim(command, holder="you"), Busy))
    assert guard.claim(command, holder="you") == Exhausted()
    assert guard.conclude(command, b"worker lost") == b"worker lost"
    assert guard.claim(command, holder="you") == Settled(value=b"worker lost")


def test_an_abandoned_claim_counts_as_taken_over(make: MakeGuard) -> None:
    guard, command = make(30), fresh()
    for _ in range(1 + MAX_TAKEOVERS):
        granted(guard, command).abandon()
    assert guard.claim(command, holder="you") == Exhausted()


def test_the_lease_of_a_dead_holder_ends_at_once_and_nobody_elses(make: MakeGuard) -> None:
    guard, command = make(30), fresh()
    granted(guard, command, holder="dead")
    guard.lost(command, holder="alive")
    assert isinstance(guard.claim(command, holder="you"), Busy)
    guard.lost(command, holder="dead")
    granted(guard, command, holder="you")


def test_a_renewed_lease_lives_on(make: MakeGuard) -> None:
    guard, command, other = make(1.0), fresh(), fresh()
    held = granted(guard, command)
    granted(guard, other)
    with kept_alive(held, lease_s=1.0, end_process=unreachable):
        wait_until(lambda: not isinstance(guard.claim(other, holder="you"), Busy))
        wait_until(lambda: not isinstance(guard.claim(other, holder="you"), Busy))
        assert isinstance(guard.claim(command, holder="you"), Busy)
    assert held.settle(b"done") == b"done"


def unreachable() -> None:
    raise AssertionError("the process was to be ended")


def test_a_lease_that_was_taken_over_is_not_renewed(make: MakeGuard) -> None:
    guard, command = make(SHORT_S), fresh()
    late = granted(guard, command)
    assert late.renew()
    granted_in_time(guard, command)
    assert not late.renew()


def test_whoever_lost_its_lease_settles_nothing_once_another_has(make: MakeGuard) -> None:
    guard, command = make(SHORT_S), fresh()
    late = granted(guard, command)
    granted_in_time(guard, command).settle(b"first")
    assert late.settle(b"late") == b"first"
    assert guard.recorded(command) == b"first"


def test_an_outcome_from_outside_wins_over_a_later_one(make: MakeGuard) -> None:
    guard, command = make(30), fresh()
    held = granted(guard, command)
    assert guard.conclude(command, b"timed out") == b"timed out"
    assert held.settle(b"done") == b"timed out"


def test_of_many_at_once_one_is_granted(make: MakeGuard) -> None:
    guard, command = make(30), fresh()
    guard.recorded(command)
    with ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda n: guard.claim(command, holder=str(n)), range(8)))
    assert sum(isinstance(claim, Granted) for claim in claims) == 1
    assert sum(isinstance(claim, Busy) for claim in claims) == 7


def test_a_guard_is_usable_after_a_fork(make: MakeGuard) -> None:
    guard, command, other = make(30), fresh(), fresh()
    granted(guard, command).settle(b"parent")
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(guard, command, other))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert guard.recorded(other) == b"child"


def _in_child(guard: Guard, command: CommandId, other: CommandId) -> None:
    assert guard.recorded(command) == b"parent"
    assert granted(guard, other).settle(b"child") == b"child"


# ---- Redis ---------------------------------------------------------------------------------------


def test_redis_entries_expire_after_their_time(valkey: str) -> None:
    with Redis.from_url(valkey) as client:
        guard, running, settled = RedisGuard(client, keep_s=3000), fresh(), fresh()
        granted(guard, running)
        granted(guard, settled).settle(b"done")
        for command in (running, settled):
            assert 2990 < client.ttl(f"triggerstream:command:{command}") <= 3000


def test_redis_by_default_remembers_longer_than_the_commands_topic(valkey: str) -> None:
    with Redis.from_url(valkey) as client:
        command = fresh()
        granted(RedisGuard(client), command).settle(b"done")
        assert client.ttl(f"triggerstream:command:{command}") > 40 * 86_400


def test_a_client_that_decodes_is_as_good(valkey: str) -> None:
    with Redis.from_url(valkey, decode_responses=True) as client:
        guard, command = RedisGuard(client), fresh()
        granted(guard, command).settle(b'{"a": "\xc3\xa4"}')
        assert guard.claim(command, holder="you") == Settled(value=b'{"a": "\xc3\xa4"}')
        assert guard.recorded(command) == b'{"a": "\xc3\xa4"}'


def test_redis_has_no_connection_to_offer(valkey: str) -> None:
    with Redis.from_url(valkey) as client, pytest.raises(UsageError, match="SqlGuard"):
        granted(RedisGuard(client), fresh()).connection()


def test_a_holder_that_cannot_renew_ends_its_process_before_the_lease_does(valkey: str) -> None:
    with Redis.from_url(valkey) as client:
        held = granted(RedisGuard(client, lease_s=SHORT_S), fresh())
        client.flushdb()
        ended: list[bool] = []
        with kept_alive(held, lease_s=SHORT_S, end_process=lambda: ended.append(True)):
            wait_until(lambda: ended)


def test_a_lease_whose_renewal_fails_in_an_unknown_way_is_tried_again_and_then_lost() -> None:
    class Odd:
        """Held under a guard whose client raises what no client should."""

        fatal_when_lost = True
        tries = 0

        def renew(self) -> bool:
            self.tries += 1
            raise ValueError("odd")

    held, ended = Odd(), threading.Event()
    with kept_alive(cast("Held", held), lease_s=SHORT_S, end_process=ended.set):
        assert ended.wait(60)
    assert held.tries > 1


def test_a_redis_server_that_is_away_is_unavailable() -> None:
    with valkey_server() as url:
        client = Redis.from_url(url, retry=None)
        guard, command = RedisGuard(client, lease_s=1), fresh()
        held = granted(guard, command)
    calls: list[Callable[[], object]] = [
        lambda: guard.claim(command, holder="me"),
        lambda: guard.conclude(command, b""),
        lambda: guard.recorded(command),
        lambda: held.settle(b""),
        held.renew,
    ]
    for call in calls:
        with pytest.raises(GuardUnavailableError):
            call()
    held.release()
    client.close()


# ---- SQL -----------------------------------------------------------------------------------------


@pytest.fixture
def effects(database: str) -> Iterator[Engine]:
    """A database with a table for effects, which has no unique key but one with a check."""
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS effects"))
        connection.execute(text("CREATE TABLE effects (name TEXT CHECK (name <> 'bad'))"))
    yield engine
    engine.dispose()


def take_effect(held: Held, name: str) -> None:
    held.connection().execute(text("INSERT INTO effects VALUES (:name)"), {"name": name})


def names(effects: Engine) -> list[str]:
    with effects.connect() as connection:
        return [row[0] for row in connection.execute(text("SELECT name FROM effects ORDER BY name"))]


def test_the_effect_and_the_record_come_together(make_sql: MakeSqlGuard, effects: Engine) -> None:
    guard, command = make_sql(), fresh()
    held = granted(guard, command)
    take_effect(held, "one")
    assert names(effects) == []
    held.settle(b"done")
    assert names(effects) == ["one"]
    assert guard.recorded(command) == b"done"


@pytest.mark.parametrize("way", ["undo", "release", "abandon"])
def test_without_the_record_there_is_no_effect(make_sql: MakeSqlGuard, effects: Engine, way: str) -> None:
    guard, command = make_sql(), fresh()
    held = granted(guard, command)
    take_effect(held, "one")
    if way == "undo":
        held.undo(b"failed")
    elif way == "release":
        held.release()
    else:
        held.abandon()
    assert names(effects) == []


def test_a_process_that_dies_leaves_neither(make_sql: MakeSqlGuard, effects: Engine) -> None:
    guard, command = make_sql(SHORT_S), fresh()
    child = multiprocessing.get_context("fork").Process(target=_die_after_effect, args=(guard, command))
    child.start()
    child.join(20)
    assert child.exitcode == 9
    assert names(effects) == []
    held = granted_in_time(guard, command)
    take_effect(held, "second")
    held.settle(b"done")
    assert names(effects) == ["second"]


def _die_after_effect(guard: Guard, command: CommandId) -> None:
    import os  # noqa: PLC0415 - in the child

    take_effect(granted(guard, command), "first")
    os._exit(9)


def test_of_two_that_run_at_once_one_takes_effect(make_sql: MakeSqlGuard, effects: Engine) -> None:
    """A process that slept through its lease wakes up beside the one that took over."""
    guard, command = make_sql(SHORT_S), fresh()
    late = granted(guard, command)
    new = granted_in_time(guard, command)
    if guard.holds_whole_database():
        with pytest.raises(GuardUnavailableError):
            take_effect(late, "late")
    else:
        take_effect(late, "late")
    take_effect(new, "new")
    assert new.settle(b"new") == b"new"
    if not guard.holds_whole_database():
        assert late.settle(b"late") == b"new"
    assert names(effects) == ["new"]


def test_a_task_cannot_commit_the_guards_transaction(make_sql: MakeSqlGuard, effects: Engine) -> None:
    guard, command = make_sql(), fresh()
    held = granted(guard, command)
    take_effect(held, "one")
    with pytest.raises(UsageError, match="begin_nested"):
        held.connection().commit()
    held.undo(b"failed")
    assert names(effects) == []


def test_a_savepoint_that_fails_leaves_the_rest(make_sql: MakeSqlGuard, effects: Engine) -> None:
    held = granted(make_sql(), fresh())
    take_effect(held, "good")
    with pytest.raises(IntegrityError), held.connection().begin_nested():
        take_effect(held, "bad")
    held.settle(b"done")
    assert names(effects) == ["good"]


def test_an_effect_that_the_database_refuses_is_the_tasks_failure(
    make_sql: MakeSqlGuard, effects: Engine
) -> None:
    """PostgreSQL refuses all that follows a failed statement; the task did not notice, or did not care."""
    guard, command = make_sql(), fresh()
    held = granted(guard, command)
    take_effect(held, "good")
    with pytest.raises(IntegrityError):
        take_effect(held, "bad")
    if guard.holds_whole_database():
        held.settle(b"done")
        assert names(effects) == ["good"]
        return
    with pytest.raises(EffectRefusedError):
        held.settle(b"done")
    assert held.undo(b"failed") == b"failed"
    assert names(effects) == []


def test_a_lease_is_renewed_while_the_effect_is_open(make_sql: MakeSqlGuard, effects: Engine) -> None:
    guard, command = make_sql(1.0), fresh()
    held = granted(guard, command)
    take_effect(held, "one")
    assert held.renew()
    assert held.renew()
    held.settle(b"done")
    assert names(effects) == ["one"]


def test_a_task_may_read_before_it_writes(make_sql: MakeSqlGuard, effects: Engine) -> None:
    """SQLite refuses a write after a read when another connection wrote in between, as a renewal does."""
    guard, command = make_sql(), fresh()
    held = granted(guard, command)
    held.connection().execute(text("SELECT count(*) FROM effects")).scalar()
    held.renew()
    take_effect(held, "one")
    held.settle(b"done")
    assert names(effects) == ["one"]


def test_a_record_that_is_too_old_is_forgotten(make_sql: MakeSqlGuard) -> None:
    old, command = make_sql(keep_s=SHORT_S), fresh()
    granted(old, command).settle(b"done")
    wait_until(lambda: _claims_and_forgets(make_sql(keep_s=SHORT_S), command))


def _claims_and_forgets(guard: SqlGuard, command: CommandId) -> bool:
    granted(guard, fresh()).release()
    gone = guard.recorded(command) is None
    guard.engine.dispose()
    return gone


def test_a_commit_whose_answer_is_lost_is_looked_up(
    make_sql: MakeSqlGuard, effects: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, command = make_sql(), fresh()
    held = granted(guard, command)
    take_effect(held, "one")
    connection = held.connection()
    commit = connection.commit

    def lost() -> None:
        commit()
        raise_unreachable()

    monkeypatch.setattr(connection, "commit", lost)
    assert held.settle(b"done") == b"done"
    assert names(effects) == ["one"]


def test_a_commit_that_did_not_come_through_records_nothing(
    make_sql: MakeSqlGuard, effects: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, command = make_sql(), fresh()
    held = granted(guard, command)
    take_effect(held, "one")
    monkeypatch.setattr(held.connection(), "commit", raise_unreachable)
    with pytest.raises(GuardUnavailableError):
        held.settle(b"done")
    assert names(effects) == []
    assert guard.recorded(command) is None


def raise_unreachable() -> None:
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    raise OperationalError("COMMIT", {}, Exception("server closed the connection"))


def test_only_sqlite_files_and_postgresql_are_taken() -> None:
    for url in ("sqlite://", "sqlite:///:memory:", "mysql://u@h/d"):
        with pytest.raises(UsageError, match="SqlGuard"):
            SqlGuard(url)
