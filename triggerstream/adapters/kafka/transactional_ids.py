"""Requests to the coordinators of transactional ids: to initialise one, and to end what it has open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidProducerEpoch,
    InvalidTxnState,
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

from triggerstream.adapters.kafka.protocol import DESCRIBE_TRANSACTIONS, RENEW_PRODUCER_ID, Call
from triggerstream.wire.claims import OwnerId

_RETRY_S = 0.005
_LONGEST_RETRY_S = 0.02
"""aiokafka waits 100 ms: the fence of an owner with 48 partitions took 137 ms, and 40 ms with this."""
_FENCED = 90
"""PRODUCER_FENCED, which aiokafka does not know: in newer versions of requests it is the answer to an epoch
that is not the newest."""
_UNKNOWN = 105
"""TRANSACTIONAL_ID_NOT_FOUND: nobody has initialised it, or not for 7 days."""
_IDLE = frozenset({"Empty", "CompleteCommit", "CompleteAbort"})
FENCED_S = 10.007
"""The time limit of transactions that a fenced id gets. Only ``end_lost_transaction`` begins one,
which has no records. No owner has the same limit for its own ids, so it also marks an id as fenced."""
_AGAIN = (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    NodeNotReadyError,
    RequestTimedOutError,
    KafkaConnectionError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialisedId:
    """A transactional id, with the producer id and epoch that its initialisation has given to this process.

    A later initialisation by another process fences this one.
    """

    id: OwnerId
    producer: int
    epoch: int


async def initialise(client: AIOKafkaClient, id_: OwnerId, *, transaction_s: float) -> InitialisedId:
    """Initialise ``id_``, which fences its present holder; its open transaction is aborted when this returns.

    Its transactions may take ``transaction_s``.

    Raises:
        KafkaError: the coordinator refuses.
    """
    time_ms = round(transaction_s * 1000)
    call = Call(InitProducerIdRequest_v0, transactional_id=id_, transaction_timeout_ms=time_ms)
    answer = await _ask(client, id_, call)
    return InitialisedId(id=id_, producer=answer.producer_id, epoch=answer.producer_epoch)


async def renew(client: AIOKafkaClient, own: InitialisedId, *, transaction_s: float) -> InitialisedId | None:
    """Abort the open transaction of ``own``, and initialise it again unless another process has done so.

    The coordinator compares the epoch for both, so this lifts no fence. None if it cannot be used again: the
    brokers are older than Kafka 3.8, and might take a late record of the transaction into the next one. It
    was fenced then.

    Raises:
        ProducerFenced: another process has initialised it, or the coordinator has ended its transaction.
        KafkaError: the coordinator refuses.
    """
    if not await _can_renew(client, own.id):
        await initialise(client, own.id, transaction_s=transaction_s)
        return None
    with suppress(InvalidTxnState):  # the coordinator has not heard of a transaction yet
        await _end_transaction(client, own, commit=False)
    call = Call(
        RENEW_PRODUCER_ID,
        transactional_id=own.id,
        transaction_timeout_ms=round(transaction_s * 1000),
        producer_id=own.producer,
        producer_epoch=own.epoch,
        tags={},
    )
    answer = await _ask(client, own.id, call)
    return InitialisedId(id=own.id, producer=answer.producer_id, epoch=answer.producer_epoch)


async def fence(client: AIOKafkaClient, id_: OwnerId) -> None:
    """Fence the former owner that has ``id_``; what it has open is aborted when this returns.

    If another process has fenced it already, this only waits until no transaction is under way. Another
    initialisation would abort a lost transaction that the other process is about to commit.

    Raises:
        KafkaError: the coordinator refuses.
    """
    while (found := await _describe(client, id_)) is not None and found.timeout_s == FENCED_S:
        if found.is_idle:
            return
        await asyncio.sleep(_LONGEST_RETRY_S)
    await initialise(client, id_, transaction_s=FENCED_S)


async def end_lost_transaction(
    client: AIOKafkaClient, former: OwnerId, places: Sequence[TopicPartition], *, commit: bool
) -> None:
    """End what the fenced owner ``former`` has open in ``places``, with a transaction without records.

    Several processes may do so at once, each in partitions of its own. Each initialises the id, which
    excludes the others until its transaction has ended: their next request is refused, and they begin again.
    One case is left: who initialises the id between two requests of another process aborts its transaction.

    Raises:
        ProducerFenced: another process has done that.
        KafkaError: the coordinator refuses.
    """
    while True:
        await fence(client, former)
        mine = await initialise(client, former, transaction_s=FENCED_S)
        try:
            await _add(client, mine, places)
        except ProducerFenced:
            await asyncio.sleep(_RETRY_S)  # another process was faster; nothing of this one is open
        else:
            await _end_transaction(client, mine, commit=commit)
            return


async def keep_alive(client: AIOKafkaClient, own: InitialisedId, place: TopicPartition) -> None:
    """Have the coordinator remember ``own``, by a transaction without records, which it then aborts.

    Raises:
        ProducerFenced: another process has initialised the id.
        KafkaError: the coordinator refuses.
    """
    await _add(client, own, [place])
    await _end_transaction(client, own, commit=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    """A coordinator's description of a transactional id. ``is_idle``: no transaction is open."""

    timeout_s: float
    is_idle: bool


async def _describe(client: AIOKafkaClient, id_: OwnerId) -> _Description | None:
    """The description of ``id_`` by its coordinator; None if it does not know the id."""
    call = Call(DESCRIBE_TRANSACTIONS, transactional_ids=[id_], tags={})
    answer = await _ask(client, id_, call)
    ((code, _id, state, timeout_ms, *_),) = answer.transactions
    if code == _UNKNOWN:
        return None
    return _Description(timeout_s=timeout_ms / 1000, is_idle=state in _IDLE)


async def _add(client: AIOKafkaClient, owner: InitialisedId, places: Sequence[TopicPartition]) -> None:
    topics: dict[str, list[int]] = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(partition)
    add = Call(AddPartitionsToTxnRequest_v0, **_fields(owner), topics=list(topics.items()))
    await _ask(client, owner.id, add)


async def _end_transaction(client: AIOKafkaClient, owner: InitialisedId, *, commit: bool) -> None:
    await _ask(client, owner.id, Call(EndTxnRequest_v0, **_fields(owner), transaction_result=commit))


def _fields(owner: InitialisedId) -> dict[str, object]:
    return {
        "transactional_id": owner.id,
        "producer_id": owner.producer,
        "producer_epoch": owner.epoch,
    }


async def _can_renew(client: AIOKafkaClient, id_: OwnerId) -> bool:
    """True if the coordinator of ``id_`` knows the request."""
    node = await _coordinator(client, id_)
    connection = client._conns[(node, ConnectionGroup.COORDINATION)]  # noqa: SLF001 - nothing public
    _, newest = connection._versions.get(RENEW_PRODUCER_ID.API_KEY, (0, 0))  # noqa: SLF001 - nothing public
    return bool(newest >= RENEW_PRODUCER_ID.API_VERSION)


async def _coordinator(client: AIOKafkaClient, id_: OwnerId) -> int:
    """The broker that coordinates ``id_``, which is connected."""
    node: int = await client.coordinator_lookup(CoordinationType.TRANSACTION, id_)
    if not await client.ready(node, group=ConnectionGroup.COORDINATION):
        raise NodeNotReadyError
    return node


async def _ask(client: AIOKafkaClient, id_: OwnerId, call: Request) -> Response:
    """The answer of the coordinator of ``id_``; asks again while it ends a transaction, or moves.

    Raises:
        KafkaError: it refuses.
    """
    wait_s, coordinator = _RETRY_S, None
    while True:
        try:
            if coordinator is None:
                coordinator = await _coordinator(client, id_)
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
    elif hasattr(answer, "transactions"):
        codes = [code for code, *_ in answer.transactions if code != _UNKNOWN]
    else:
        codes = [code for _topic, partitions in answer.errors for _partition, code in partitions if code]
    if _FENCED in codes:
        raise ProducerFenced
    # If one partition is refused, the others have the error OperationNotAttempted, which says nothing.
    for code in sorted(codes, key=lambda code: code == OperationNotAttempted.errno):
        if code:
            raise for_code(code)(id_)
