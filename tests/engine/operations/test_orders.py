"""Orders: addressed to the session as it is, and followed to their outcome, at both entrances alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from tests.core.story import Story, task
from triggerstream.adapters.memory import (
    ManualClock,
    MemoryDatabase,
    MemoryDispatcher,
    MemoryLog,
    MemoryReader,
    MemoryStore,
)
from triggerstream.core.commands import Command
from triggerstream.core.errors import LogError
from triggerstream.core.events import Body, Cancel, Close, Erase, Failed, Order, Replay, Resend, Skip, Trigger
from triggerstream.core.ids import AppId, ConfigHash, InstanceId, SessionId, TaskName, TriggerName
from triggerstream.core.projections import explain
from triggerstream.core.state import Instance, Sent, SessionState, Status, TaskRecord
from triggerstream.engine.embedded.engine import EmbeddedEngine
from triggerstream.engine.operations.following import PAGE, LogPosition
from triggerstream.engine.operations.orders import (
    AddressedOrder,
    Answer,
    Target,
    address,
    give,
    target_in,
)
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.engine.queries.inspector import give_order, target_shown
from triggerstream.engine.rows import DeadLetterRow, SessionRow
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord, Record

APP, S = AppId("app"), SessionId("s")
T0, T1 = InstanceId("t#0"), InstanceId("t#1")
TASKS = '{"t": {"after": ["a"], "run": "app.t"}, "u": {"after": ["a", "b"], "run": "app.u"}}'
SENT = Sent(run="app.t", config=ConfigHash("h"))
STATE = SessionState(
    generation=3,
    closed=True,
    tasks={
        TaskName("t"): TaskRecord(
            next=1,
            open={
                0: Instance(number=0, status=Status.RUNNING, created_us=0, changed_us=0, attempt=2, sent=SENT)
            },
        )
    },
)
SHOWN = explain(Story({"t": task("a")}).rules, S, STATE)


@pytest.mark.parametrize("instance", [T0, T1, InstanceId("x#0")])
def test_both_entrances_find_the_same_target(instance: InstanceId) -> None:
    assert target_in(STATE, instance) == target_shown(SHOWN, instance)
    assert target_in(None, instance) == target_shown(None, instance) == Target()


def test_an_order_is_for_the_session_as_it_is_now() -> None:
    def addressed(order: Order | Close | Erase) -> Order | Close | Erase:
        return address(S, order, target_in(STATE, AddressedOrder(session=S, order=order).instance)).order

    assert addressed(Close()) == Close(generation=3)
    assert addressed(Erase()) == Erase(generation=3)
    # The instances of a closed session are of the generation before.
    assert addressed(Cancel(instance=T0)) == Cancel(instance=T0, generation=2)
    assert addressed(Resend(instance=T0)) == Resend(instance=T0, generation=2, attempt=2)
    assert addressed(Resend(instance=T1)) == Resend(instance=T1, generation=2, attempt=0)


def test_an_order_for_a_session_that_is_not_known_is_for_its_first_generation() -> None:
    assert address(S, Close(), Target()).order == Close(generation=0)
    assert address(S, Resend(instance=T0), Target()).order == Resend(instance=T0, generation=0, attempt=0)


# ---- both entrances, on an engine in memory -------------------------------------------------------


class OneAppend(MemoryLog):
    """A log that appends ``more`` records right after each order, and then calls ``on_append``."""

    more: Sequence[NewRecord] = ()
    on_append: Callable[[], None] = staticmethod(lambda: None)

    async def append(self, records: Sequence[NewRecord]) -> None:
        await super().append([*records, *self.more])
        self.on_append()


class FailingReader(MemoryReader):
    """A reader whose states cannot be read any more, once ``broken``."""

    broken = False

    calls = 0
    """Calls of methods that read anything, since the start."""

    async def some(self, sessions: Collection[SessionId]) -> Mapping[SessionId, SessionRow]:
        self.calls += 1
        if self.broken:
            raise LogError("the store is gone")
        return await super().some(sessions)

    async def records(self, *, after: int = -1, limit: int = 50, partition: int = 0) -> Sequence[Record]:
        self.calls += 1
        return await super().records(after=after, limit=limit, partition=partition)

    async def dead_letters_at(
        self, offsets: Collection[int], *, partition: int = 0
    ) -> Mapping[int, DeadLetterRow]:
        self.calls += 1
        return await super().dead_letters_at(offsets, partition=partition)


@dataclass
class World:
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.log = OneAppend(self.database, clock=self.clock)
        self.reader = FailingReader(self.database)
        self.dispatcher = MemoryDispatcher()
        self.engine = EmbeddedEngine(
            app=APP,
            log=MemoryLog(self.database, clock=self.clock),
            store=MemoryStore(self.database, app=APP, clock=self.clock),
            dispatcher=self.dispatcher,
            clock=self.clock,
            on_checkpoint=lambda _: None,
        )
        self.task = asyncio.create_task(self.engine.run())

    async def append(self, *bodies: Body) -> None:
        """Append events of the session and wait until they are folded."""
        await MemoryLog(self.database, clock=self.clock).append([event(body) for body in bodies])
        async with asyncio.timeout(20):
            await self.engine.reached(len(self.database.records))

    async def failed(self) -> None:
        """Have ``t#0`` failed."""
        await self.append(fire("a"))
        command = (await self.dispatcher.wait_for(1))[0]
        assert isinstance(command, Command)
        await self.append(Failed(instance=T0, command=command.id, error="boom"))

    async def stop(self) -> None:
        self.engine.stop()
        async with asyncio.timeout(20):
            await self.task


def fire(name: str) -> Trigger:
    return Trigger(name=TriggerName(name), data={})


def event(body: Body) -> NewRecord:
    return NewRecord(key=S.encode(), value=encode(body))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with asyncio.timeout(20):
        await made.engine.ready()
    await made.engine.apply(TASKS)
    yield made
    await made.stop()


async def from_the_command_line(world: World, order: Order, wait_s: float) -> Answer:
    row = await world.reader.session(S)
    to = address(S, order, target_in(None if row is None else row.known(), order.instance))
    return (await give(world.log, world.reader, [to], wait_s=wait_s))[0]


async def from_a_page(world: World, order: Order, wait_s: float) -> Answer:
    inspector = EmbeddedInspector(world.reader, world.log, app=APP)
    to = address(S, order, target_shown(await inspector.session(S), order.instance))
    return await give_order(inspector, to, wait_s=wait_s)


Entrance = Callable[[World, Order, float], Awaitable[Answer]]
both_entrances = pytest.mark.parametrize("entrance", [from_the_command_line, from_a_page])


async def given(entrance: Entrance, world: World, order: Order, *, wait_s: float = 20) -> tuple[object, ...]:
    """Folded, applied, status and clone; and the reason beside them."""
    answer = await entrance(world, order, wait_s)
    assert answer.to.session == S
    assert world.database.records[answer.position.offset].value is not None
    return (answer.folded, answer.applied, answer.status, answer.clone), answer.reason


@both_entrances
@pytest.mark.parametrize(
    ("order", "outcome"),
    [
        (Replay(instance=T0, reason="r"), (True, True, "replayed", "t#1")),
        (Skip(instance=T0, reason="unless"), (True, True, "skipped", None)),
        (Cancel(instance=InstanceId("u#0"), reason="refused"), (True, True, "cancelled", None)),
    ],
)
async def test_an_order_that_applies(
    world: World, entrance: Entrance, order: Order, outcome: tuple[object, ...]
) -> None:
    await world.failed()
    assert await given(entrance, world, order) == (outcome, None)


@both_entrances
@pytest.mark.parametrize(
    ("order", "outcome", "reason"),
    [
        (Cancel(instance=T0), (True, False, "failed", None), "t#0 is failed: only one that waits or runs is"),
        (Skip(instance=T1), (True, False, None, None), "the session has no instance t#1"),
        (
            Skip(instance=InstanceId("x#0")),
            (True, False, None, None),
            "the session has no instance of task x",
        ),
    ],
)
async def test_an_order_that_is_refused(
    world: World, entrance: Entrance, order: Order, outcome: tuple[object, ...], reason: str
) -> None:
    await world.failed()
    found, said = await given(entrance, world, order)
    assert found == outcome
    assert str(said).startswith(reason)


@both_entrances
async def test_an_order_for_a_session_of_which_nothing_is_known(world: World, entrance: Entrance) -> None:
    assert await given(entrance, world, Skip(instance=T0)) == (
        (True, False, None, None),
        "nothing is known of this session",
    )
    assert await world.reader.session(S) is None


async def test_orders_by_the_hundred_are_answered_by_one_pass_over_the_partition(world: World) -> None:
    known = [SessionId(f"s{number}") for number in range(500)]
    await world.log.append([NewRecord(key=one.encode(), value=encode(fire("a"))) for one in known])
    await world.engine.reached(len(world.database.records))
    orders: list[AddressedOrder] = []
    for number, session in enumerate([*known, *(SessionId(f"nobody{number}") for number in range(100))]):
        cancel = Cancel(instance=InstanceId("u#0"), reason=str(number), generation=0)
        orders += [
            AddressedOrder(session=session, order=cancel),
            AddressedOrder(session=session, order=Erase(generation=0)),
        ]
    world.reader.calls = 0
    answers = await give(world.log, world.reader, orders, wait_s=60)
    assert [answer.to for answer in answers] == orders
    assert {(answer.folded, answer.reason) for answer in answers[1000:]} == {
        (True, "nothing is known of this session")
    }
    assert {answer.applied for answer in answers[1:1000:2]} == {True}
    pages = -(-len(orders) // PAGE)
    assert world.reader.calls <= pages + 3


@both_entrances
async def test_an_order_that_no_engine_folds_in_time(world: World, entrance: Entrance) -> None:
    await world.failed()
    await world.stop()
    assert await given(entrance, world, Skip(instance=T0), wait_s=0.1) == ((False, None, None, None), None)


@both_entrances
@pytest.mark.parametrize("known", [True, False])
async def test_an_order_that_becomes_a_dead_letter(world: World, entrance: Entrance, known: bool) -> None:  # noqa: FBT001
    """A page used to call it done if later events were folded, and else not folded yet."""
    if known:
        await world.failed()
    await world.stop()
    database = world.database
    offset = len(database.records)
    letter = DeadLetterRow(
        number=1, at_us=0, offset=offset, key=b"s", value=None, headers=(), reason="is not signed"
    )
    database.dead_letters.append(letter)
    database.offset = offset + 1
    found, reason = await given(entrance, world, Skip(instance=T0))
    assert (found, reason) == ((True, False, "failed" if known else None, None), "is not signed")


@both_entrances
async def test_an_order_that_is_no_longer_in_the_timeline(world: World, entrance: Entrance) -> None:
    """Both entrances used to call it done, whether it applied or not."""
    await world.failed()
    world.log.more = [event(fire("other")) for _ in range(60)]
    found, reason = await given(entrance, world, Cancel(instance=T0))
    assert found == (True, None, "failed", None)
    assert str(reason).startswith("it was processed, but is no longer in the session's timeline")


@both_entrances
async def test_an_order_whose_session_cannot_be_read_is_in_the_log(world: World, entrance: Entrance) -> None:
    await world.failed()
    world.log.on_append = lambda: setattr(world.reader, "broken", True)
    answer = await entrance(world, Skip(instance=T0), 20)
    assert (answer.folded, answer.applied, answer.reason) == (True, None, "the store is gone")
    assert answer.position == LogPosition(0, len(world.database.records) - 1)


async def test_an_erasure_applies_although_it_leaves_no_trace(world: World) -> None:
    await world.failed()
    to = address(S, Erase(), Target(generation=0))
    (answer,) = await give(world.log, world.reader, [to], wait_s=20)
    assert (answer.folded, answer.applied, answer.reason) == (True, True, None)
    (answer,) = await give(world.log, world.reader, [to], wait_s=20)
    assert (answer.folded, answer.applied) == (True, False)
    assert answer.reason == "the session is in generation 1, the order was given for 0"


async def test_orders_for_many_are_answered_in_their_order(world: World) -> None:
    await world.failed()
    orders: list[Order] = [Skip(instance=T0), Skip(instance=T0), Cancel(instance=InstanceId("u#0"))]
    made = [address(S, order, Target()) for order in orders]
    answers = await give(world.log, world.reader, made, wait_s=20)
    assert [answer.applied for answer in answers] == [True, False, True]
    assert [answer.to for answer in answers] == made
