"""Fences transactional ids of former owners, and ends what they have left open, over one client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from triggerstream.adapters.kafka import transactional_ids
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.records import extents, learn_leaders, partition_exists
from triggerstream.adapters.kafka.request_batcher import RequestBatcher
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.adapters.kafka.transactional_ids import InitialisedId
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.claims import FormerOwner
from triggerstream.wire.claims import OwnerId

_T = TypeVar("_T")

FENCE_S = 60.0
"""Maximum time for a fence: a coordinator ends a transaction in all its partitions before it answers."""
_RETRY_S = 0.005
_LONGEST_RETRY_S = 0.02
"""First and longest pause between two requests of ``readable``."""
_ASK_S = 5.0
"""Time for the requests of ``readable``, in addition to the time for which it repeats them."""
_EARLIER_S = 10.0
"""Time for which an owner waits for those with an earlier claim on a former owner's partitions. Their
transactions have this time limit, so one that has died meanwhile ends nothing any more."""
_PARALLEL = 32
"""Requests under way: each may hold its connection for as long as a transaction takes to end."""


class KafkaFencing:
    """A :class:`triggerstream.engine.partitioned.claims.Fencing` of an app, one for the process."""

    def __init__(self, connection: Connection, app: AppId) -> None:
        self._connection = connection
        self._app = app
        self._topics = Topics.of(app)
        self._old_releases = RequestBatcher(self._fence_old_releases)
        self._finishing = asyncio.Lock()

    async def initialise(self, ids: Collection[OwnerId], *, transaction_s: float) -> Sequence[InitialisedId]:
        """Initialise new ``ids`` for this process. Never call it again for one of them: it lifts a fence.

        Raises:
            LogError: it is unknown whether they are initialised.
        """
        async with (
            translate_errors("transactional ids cannot be initialised", timeout_s=FENCE_S),
            self._connection.client() as client,
        ):
            return await _gather(
                lambda id_: transactional_ids.initialise(client, id_, transaction_s=transaction_s), ids
            )

    async def renew(self, own: InitialisedId, *, transaction_s: float) -> InitialisedId | None:
        """Abort what ``own`` has open, and initialise it again, unless another process has fenced it.

        None if it cannot be used again, because the brokers are too old; it is aborted then, too.

        Raises:
            FencedError: another process has fenced it.
            LogError: it is unknown whether it is aborted, and it must not be used again.
        """
        async with (
            translate_errors("a transaction cannot be aborted", timeout_s=FENCE_S),
            self._connection.client() as client,
        ):
            return await transactional_ids.renew(client, own, transaction_s=transaction_s)

    async def keep_alive(self, own: Sequence[InitialisedId], place: TopicPartition) -> None:
        """Have brokers remember ``own``, which no transaction of this process uses now.

        Raises:
            LogError: it is unknown whether they do, and whether a request is under way.
        """
        async with (
            translate_errors("transactional ids cannot be kept", timeout_s=FENCE_S),
            self._connection.client() as client,
        ):
            for one in own:
                await transactional_ids.keep_alive(client, one, place)

    async def fence(self, ids: Collection[OwnerId]) -> None:
        async with self._fencing() as client:
            await _gather(lambda id_: transactional_ids.fence(client, id_), ids)

    async def readable(self, partitions: Collection[int], *, within_s: float) -> Collection[int]:
        places = [place for number in partitions for place in own_places(self._topics, number)]
        if not places:
            return set()
        try:
            async with asyncio.timeout(within_s + _ASK_S):
                left = await self._unreadable(places, within_s)
        except TimeoutError:
            return set()  # one of them is away, and nothing is known of the others
        return set(partitions) - {place.partition for place in left}

    async def _unreadable(self, places: list[TopicPartition], within_s: float) -> list[TopicPartition]:
        """Those of ``places`` whose records of now cannot all be read by then. Others may write on."""
        # Not the questions of the process: a partition that is away holds up all who ask with it.
        loop, wait_s = asyncio.get_running_loop(), _RETRY_S
        deadline = loop.time() + within_s
        async with (
            translate_errors("the log's end is not known"),
            self._connection.running(self._connection.reader()) as reader,
        ):
            await learn_leaders(reader, places)
            # A claim from before the topics were made again may name more than they have now.
            places = [place for place in places if partition_exists(reader, place)]
            ends = await extents(self._connection, places) if places else {}
            while places:
                stable = await reader.end_offsets(places)
                places = [place for place in places if stable[place] < ends[place][1]]
                if not places or loop.time() > deadline:
                    break
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_RETRY_S)
        return places

    async def close(self) -> None:
        """Close the connections."""
        await self._old_releases.close()

    async def fence_old_release(self, partition: int) -> OwnerId:
        """Fence the id under which releases before claims commit to ``partition``; the id.

        Partitions that ask in the same moment are fenced together.

        Raises:
            LogError: it is unknown whether it is fenced.
        """
        return (await self._old_releases.answers([partition]))[partition]

    async def _fence_old_releases(self, partitions: Collection[int]) -> Mapping[int, OwnerId]:
        ids = {partition: OwnerId(f"{self._app}-{partition}") for partition in partitions}
        async with self._fencing() as client:  # not `fence`: an old release may initialise its id again
            time_s = transactional_ids.FENCED_S
            await _gather(
                lambda id_: transactional_ids.initialise(client, id_, transaction_s=time_s), ids.values()
            )
        return ids

    @asynccontextmanager
    async def _fencing(self) -> AsyncIterator[AIOKafkaClient]:
        async with (
            translate_errors("former owners cannot be fenced", timeout_s=FENCE_S),
            self._connection.client() as client,
        ):
            yield client

    async def finish(
        self, former: Sequence[FormerOwner], places: Sequence[TopicPartition], *, commit: bool
    ) -> None:
        """End what ``former`` have open in ``places``, with a transaction without records for each of them.

        Owners with an earlier claim on their partitions end these first.

        Raises:
            FencedError: another process has aborted it meanwhile.
            LogError: it is unknown whether it has succeeded.
        """
        async with (
            self._finishing,  # a former owner may have had several partitions, and can have one transaction
            translate_errors("the log did not end a former owner's transaction", timeout_s=FENCE_S),
            self._connection.client() as client,
        ):
            for owner in former:
                await self.readable(owner.earlier, within_s=_EARLIER_S)
                await transactional_ids.end_lost_transaction(client, owner.id, places, commit=commit)


def own_places(topics: Topics, partition: int) -> list[TopicPartition]:
    """The partitions to which the owner of ``partition`` alone writes in transactions."""
    return [
        TopicPartition(topic, partition) for topic in (topics.changelog, topics.commands, topics.dead_letters)
    ]


async def _gather(ask: Callable[[OwnerId], Awaitable[_T]], ids: Iterable[OwnerId]) -> list[_T]:
    """The answers for ``ids``, at most ``_PARALLEL`` of which are asked for at once.

    One that is cancelled before its turn is not asked for.
    """
    limit = asyncio.Semaphore(_PARALLEL)

    async def one(id_: OwnerId) -> _T:
        async with limit:
            return await ask(id_)

    return await asyncio.gather(*map(one, ids))
