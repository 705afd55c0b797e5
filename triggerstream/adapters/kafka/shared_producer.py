"""The producers of :mod:`triggerstream.adapters.kafka.transaction_group`, and the checkpoints that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from triggerstream.adapters.kafka.sending import Entry
from triggerstream.adapters.kafka.transactional_ids import InitialisedId
from triggerstream.core.errors import LogError
from triggerstream.wire.records import NewRecord

_TICKS = 10
"""Number of waits into which the time limit for a slow partition is divided."""
_UNADDED = 3
"""Factor of the time that partitions wait to be added to a transaction. The coordinator adds none while a
partition of the last transaction has no leader that could write its marker."""
_REASON_S = 2.0
"""Time for the other answers once one is an error: one of them may have the cause, such as a fence."""


@dataclass(slots=True, eq=False)
class QueuedCheckpoint:
    """A checkpoint of one partition that waits to be committed. ``done``: the changelog position after it."""

    partition: int
    batches: Sequence[tuple[str, Sequence[NewRecord | Entry]]] = field(repr=False)
    """By topic; the changelog comes first."""
    offset: Mapping[TopicPartition, OffsetAndMetadata]
    size: int
    done: asyncio.Future[int]
    position: int = 0

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(self.position)


@dataclass(slots=True, eq=False)
class SharedProducer:
    """A producer, the checkpoints that wait for it, and the task that commits them."""

    id: InitialisedId
    producer: AIOKafkaProducer
    waiting: deque[QueuedCheckpoint] = field(default_factory=deque)
    working: asyncio.Task[None] | None = None
    error: BaseException | None = None
    """The error that ended it; None while it works."""

    def take(self, most: int) -> list[QueuedCheckpoint]:
        """The checkpoints of the next transaction: the first, and more up to ``most`` bytes."""
        taken: list[QueuedCheckpoint] = []
        size = 0
        while self.waiting:
            first = self.waiting[0]
            if first.done.done():
                self.waiting.popleft()  # who waited for it has given up
                continue
            size += first.size
            if taken and size > most:
                break
            taken.append(self.waiting.popleft())
        return taken


class TransactionGivenUpError(Exception):
    """A transaction cannot be committed because of some of its partitions; each has an error, or is slow.

    Without any, it is one of the last transaction that holds this one up.
    """

    def __init__(self, culprits: Mapping[QueuedCheckpoint, BaseException | None]) -> None:
        super().__init__()
        self.culprits = culprits


async def wait_for_acknowledgements(
    producer: AIOKafkaProducer,
    sending: Mapping[asyncio.Task[int], QueuedCheckpoint],
    *,
    has_spare: Callable[[], bool],
    slow_s: float,
) -> None:
    """Return once all records are acknowledged. ``has_spare``: True if there is a spare id to go on with now.

    Raises:
        TransactionGivenUpError: the fault is that of some partitions, and ``has_spare``.
        FencedError, LogError, KafkaError: it is that of the whole transaction.
    """
    pending = set(sending)
    writing = sum(bool(checkpoint.batches) for checkpoint in sending.values())
    idle = 0  # in ticks: a process that was stopped misses one, and then finds the answers
    while pending:
        done, pending = await asyncio.wait(
            pending, timeout=slow_s / _TICKS, return_when=asyncio.FIRST_EXCEPTION
        )
        if any(map(_error_of, done)):
            if pending:
                await asyncio.wait(pending, timeout=_REASON_S)
            raise _cause(producer, sending, has_spare=has_spare())
        idle = 0 if done else idle + 1
        if idle >= _TICKS and len(pending) < writing and has_spare():
            raise TransactionGivenUpError({sending[task]: None for task in pending})
        if idle >= _UNADDED * _TICKS and has_spare() and producer._txn_manager.partitions_to_add():  # noqa: SLF001 - nothing public tells
            raise TransactionGivenUpError({})
    for task, checkpoint in sending.items():
        checkpoint.position = task.result()


def _cause(
    producer: AIOKafkaProducer,
    sending: Mapping[asyncio.Task[int], QueuedCheckpoint],
    *,
    has_spare: bool,
) -> BaseException:
    """The error of a transaction of which some records were not accepted.

    An error that only reports the end of the transaction is left out: another one has its cause.
    """
    errors = {one: error for task, one in sending.items() if (error := _error_of(task)) is not None}
    own = {one: error for one, error in errors.items() if not isinstance(error, IllegalOperation)}
    for error in own.values():
        if isinstance(error, ProducerFenced):
            return cast("BaseException", error)
    manager = producer._txn_manager  # noqa: SLF001 - nothing public tells
    if not manager.is_in_transaction():
        ended = manager.wait_for_transaction_end()
        if (
            ended is not None
            and ended.done()
            and not ended.cancelled()
            and (cause := ended.exception()) is not None
        ):
            return cast("BaseException", cause)
    elif own and has_spare and all(isinstance(error, KafkaError) for error in own.values()):
        return TransactionGivenUpError(
            {one: None if _is_retriable(error) else error for one, error in own.items()}
        )
    return next(iter((own or errors).values()))


def _is_retriable(error: Any) -> bool:  # noqa: ANN401 - aiokafka is not typed
    return bool(error.retriable)


async def fail_after(
    others: Iterable[QueuedCheckpoint], culprit: QueuedCheckpoint, error: BaseException
) -> None:
    """Give ``culprit`` its error once ``others`` have ended: the error ends the process."""
    with failing(culprit):
        waiting = [one.done for one in others if not one.done.done()]
        if waiting:
            await asyncio.wait(waiting)
        raise error


@contextmanager
def failing(checkpoint: QueuedCheckpoint) -> Iterator[None]:
    """Give ``checkpoint`` the error of the block."""
    try:
        yield
    except BaseException as exc:
        checkpoint.fail(LogError("it was closed") if isinstance(exc, asyncio.CancelledError) else exc)
        raise


def _error_of(task: asyncio.Future[Any]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None
