"""Fences transactional ids of former owners, and ends what they have left open, over one client."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NotCoordinatorError,
    OperationNotAttempted,
    ProducerFenced,
    RequestTimedOutError,
    for_code,
)
from aiokafka.protocol.api import Request, Response
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest_v0,
    EndTxnRequest_v0,
    InitProducerIdRequest_v0,
)

from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.ends import PartitionEnds
from triggerstream.adapters.kafka.protocol import Call
from triggerstream.adapters.kafka.records import extents
from triggerstream.adapters.kafka.topics import Topics
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.claims import InitialisedId
from triggerstream.wire.claims import OwnerId

FENCE_S = 60.0
"""Maximum time for a fence: a coordinator ends a transaction in all its partitions before it answers."""
_TRANSACTION_MS = 10_000
"""The time limit of transactions that the id gets. Only ``finish`` begins one, which has no records."""
_RETRY_S = 0.005
_LONGEST_RETRY_S = 0.02
"""aiokafka waits 100 ms: the fence of an owner with 48 partitions took 137 ms, and 40 ms with this."""
_ASK_S = 5.0
"""Time for the questions themselves, where it is asked for a short while whether all can be read."""
_PARALLEL = 32
"""Requests under way: each may hold its connection for as long as a transaction takes to end."""
_AGAIN = (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    NodeNotReadyError,
    RequestTimedOutError,
    KafkaConnectionError,
)


class KafkaFencing:
    """A :class:`triggerstream.engine.partitioned.claims.Fencing` of an app, one for the process.

    It also has the questions for the ends of partitions, which several partitions ask together.
    """

    def __init__(self, connection: Connection, app: AppId) -> None:
        self._connection = connection
        self._app = app
        self._topics = Topics.of(app)
        self.ends = PartitionEnds(connection)
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
            limit, time_ms = asyncio.Semaphore(_PARALLEL), round(transaction_s * 1000)
            return await asyncio.gather(*(_fenced(client, id_, limit, time_ms=time_ms) for id_ in ids))

    async def fence(self, ids: Collection[OwnerId]) -> Sequence[InitialisedId]:
        async with (
            translate_errors("former owners cannot be fenced", timeout_s=FENCE_S),
            self._connection.client() as client,
        ):
            limit = asyncio.Semaphore(_PARALLEL)
            return await asyncio.gather(*(_fenced(client, id_, limit) for id_ in ids))

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
        async with translate_errors("the log's end is not known"):
            ends = await extents(self._connection, places)
            async with self._connection.running(self._connection.reader()) as reader:
                while True:
                    stable = await reader.end_offsets(places)
                    places = [place for place in places if stable[place] < ends[place][1]]
                    if not places or loop.time() > deadline:
                        return places
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * 2, _LONGEST_RETRY_S)

    async def close(self) -> None:
        """Close the connections."""
        await self.ends.close()

    async def fence_old_release(self, partition: int) -> InitialisedId:
        """Fence the id under which releases before claims commit to ``partition``.

        Raises:
            LogError: it is unknown whether it is fenced.
        """
        (fenced,) = await self.fence([OwnerId(f"{self._app}-{partition}")])
        return fenced

    async def finish(
        self, former: Sequence[InitialisedId], places: Sequence[TopicPartition], *, commit: bool
    ) -> None:
        """End what ``former`` have open in ``places``, with a transaction without records for each of them.

        Raises:
            FencedError: another process has fenced one of them meanwhile.
            LogError: it is unknown whether it has succeeded.
        """
        topics: dict[str, list[int]] = {}
        for topic, partition in places:
            topics.setdefault(topic, []).append(partition)
        async with (
            self._finishing,  # a former owner may have had several partitions, and can have one transaction
            translate_errors("the log did not end a former owner's transaction", timeout_s=FENCE_S),
            self._connection.client() as client,
        ):
            for owner in former:
                of_owner = {
                    "transactional_id": owner.id,
                    "producer_id": owner.producer,
                    "producer_epoch": owner.epoch,
                }
                add = Call(AddPartitionsToTxnRequest_v0, **of_owner, topics=list(topics.items()))
                await _ask(client, owner.id, add)
                await _ask(client, owner.id, Call(EndTxnRequest_v0, **of_owner, transaction_result=commit))


def own_places(topics: Topics, partition: int) -> list[TopicPartition]:
    """The partitions to which the owner of ``partition`` alone writes in transactions."""
    return [
        TopicPartition(topic, partition) for topic in (topics.changelog, topics.commands, topics.dead_letters)
    ]


async def _fenced(
    client: AIOKafkaClient, id_: OwnerId, limit: asyncio.Semaphore, *, time_ms: int = _TRANSACTION_MS
) -> InitialisedId:
    call = Call(InitProducerIdRequest_v0, transactional_id=id_, transaction_timeout_ms=time_ms)
    async with limit:
        answer = await _ask(client, id_, call)
    return InitialisedId(id=id_, producer=answer.producer_id, epoch=answer.producer_epoch)


async def _ask(client: AIOKafkaClient, id_: OwnerId, call: Request) -> Response:
    """The answer of the coordinator of ``id_``; asks again while it ends a transaction, or moves.

    Raises:
        KafkaError: it refuses.
    """
    wait_s, coordinator = _RETRY_S, None
    while True:
        try:
            if coordinator is None:
                coordinator = await client.coordinator_lookup(CoordinationType.TRANSACTION, id_)
                if not await client.ready(coordinator, group=ConnectionGroup.COORDINATION):
                    raise NodeNotReadyError
            answer = await client.send(coordinator, call, group=ConnectionGroup.COORDINATION)
            _raise_error(answer, id_)
        except InvalidProducerEpoch as exc:
            raise ProducerFenced from exc
        except _AGAIN as exc:
            if not isinstance(exc, ConcurrentTransactions):
                coordinator = None
        except KafkaError as exc:
            if not exc.retriable:
                raise
            coordinator = None
        else:
            return answer
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_RETRY_S)
        if coordinator is None:
            await client.force_metadata_update()


def _raise_error(answer: Response, id_: OwnerId) -> None:
    """Raise the error in ``answer``, if it has one."""
    if hasattr(answer, "error_code"):
        codes = [answer.error_code]
    else:
        codes = [code for _topic, partitions in answer.errors for _partition, code in partitions if code]
    # Where one partition is refused, the others are only said not to have been attempted.
    for code in sorted(codes, key=lambda code: code == OperationNotAttempted.errno):
        if code:
            raise for_code(code)(id_)
