"""How every client of ours reaches the cluster, and what its errors are called here."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts
from aiokafka.errors import KafkaConnectionError, KafkaError

from triggerstream.adapters.kafka.answers import RETRY_MS, Answers, watch_answers
from triggerstream.adapters.kafka.refusal import refusal
from triggerstream.adapters.kafka.security import NOTHING, Security
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.wire.records import NewRecord

_T = TypeVar("_T")

_TRIED = re.compile(r"\('([^']+)', ([0-9]+), ")

BATCH_BYTES = 512 * 1024
"""The bytes of a record batch; one that holds a single longer record is longer."""
_LONGEST_REQUEST_BYTES = 8 * 1024 * 1024
"""A state has up to 4 MiB; the real bound is a topic's ``max.message.bytes``, which the broker checks."""
_REQUEST_TIMEOUT_MS = 10_000
"""After so long without an answer another connection is tried. aiokafka's 40 s are for slow networks."""
TRANSACTION_S = 10.0
"""How long a dead process's transaction can keep readers waiting where nobody takes over from it."""
_STOP_S = 5.0
"""What is still not acknowledged then was reported as such already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the brokers are: ``bootstrap`` is ``host:port``, or several with commas between them.

    ``answers``: what its transactional producers hear of brokers.
    """

    bootstrap: str
    client_id: str = "triggerstream"
    security: Security = NOTHING
    answers: Answers = field(default_factory=Answers, compare=False, repr=False)

    def options(self) -> dict[str, Any]:
        """What every aiokafka client is made with.

        Raises:
            UsageError: certificates or a password cannot be read.
        """
        return {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            **self.security.options(),
        }

    def signed(self, app: AppId, record: NewRecord) -> NewRecord:
        """``record`` as it is appended: where there is a control key, the engine's own events are signed."""
        control = self.security.control
        return record if control is None else control.signed(app, record, now_us=time.time_ns() // 1_000)

    async def start(self, client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
        """Have ``client`` connect.

        Raises:
            UsageError: brokers do not take it as it comes; the message says what they do not take.
            KafkaError: none can be reached.
        """
        try:
            await client.start()
        except KafkaConnectionError as exc:
            await self._explain(exc)
            raise

    async def _explain(self, exc: KafkaConnectionError) -> None:
        """Raise what it is that brokers do not take, if it is that.

        aiokafka only logs it, and goes on to the next broker.
        """
        for host, port, _ in collect_hosts(self.bootstrap):
            why = await refusal(host, port, security=self.security, client_id=self.client_id)
            if why is not None:
                raise UsageError(f"{host}:{port} {why}") from exc

    def producer(
        self, *, transactional_id: str | None = None, transaction_s: float = TRANSACTION_S
    ) -> AIOKafkaProducer:
        """An idempotent producer, not started yet; it is made for the event loop that runs."""
        transactional = {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": round(transaction_s * 1000),
            "retry_backoff_ms": RETRY_MS,
        }
        producer = AIOKafkaProducer(
            **self.options(),
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=_LONGEST_REQUEST_BYTES,
            **(transactional if transactional_id is not None else {}),
        )
        if transactional_id is not None:
            watch_answers(producer.client, self.answers)
        return producer

    def reader(self, *, wait_ms: int = 250, committed: bool = True) -> AIOKafkaConsumer:
        """A consumer that belongs to no group, not started yet.

        Of committed records, up to where the first open transaction begins; or, not ``committed``, of all.
        ``wait_ms``: how long a broker may wait for records; what is asked meanwhile is answered after it.
        """
        return AIOKafkaConsumer(
            **self.options(),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed" if committed else "read_uncommitted",
            auto_offset_reset="none",
            fetch_max_wait_ms=wait_ms,
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AIOKafkaClient]:
        """A client that only asks; it is connected.

        Raises:
            UsageError, KafkaError: as :meth:`start`.
        """
        client = AIOKafkaClient(**self.options())
        try:
            try:
                await client.bootstrap()
            except KafkaConnectionError as exc:
                await self._explain(exc)
                raise
            yield client
        finally:
            await client.close()


def answered_at(consumer: AIOKafkaConsumer) -> float:
    """When a broker last answered over a connection that ``consumer`` has, by the monotonic clock.

    Minus infinity: it has none. Heartbeats and fetches bring answers every few seconds at the least.
    """
    connections = list(consumer._client._conns.values())  # noqa: SLF001 - nothing public tells
    return max((connection._last_action for connection in connections), default=-math.inf)  # noqa: SLF001 - likewise


@asynccontextmanager
async def translated(what: str, *, timeout_s: float) -> AsyncIterator[None]:
    """Bound the block's time. ``what`` begins the message: ``cannot read triggerstream.events``.

    Raises:
        LogError: in place of aiokafka's and the network's errors, and when the time is over.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as exc:
        raise LogError(f"{what}: no answer within {timeout_s:g} s") from exc
    except (KafkaError, OSError, NotImplementedError) as exc:
        raise LogError(f"{what}: {_said(exc)}") from exc


def _said(exc: Exception) -> str:
    """What ``exc`` says, in words for people where aiokafka's are for nobody."""
    tried = _TRIED.findall(str(exc)) if isinstance(exc, KafkaConnectionError) else []
    if not tried:
        return str(exc)
    return f"no Kafka answers at {', '.join(f'{host}:{port}' for host, port in tried)}"


def seen(answer: asyncio.Future[Any]) -> None:
    """A done callback: an error of ``answer`` is not reported by asyncio as one that nobody looked at."""
    if not answer.cancelled():
        answer.exception()


async def gathered(sent: Iterable[Awaitable[_T]]) -> list[_T]:
    """The results of ``sent``, once all are there; else the first error of them, once all are over."""
    answers = await asyncio.gather(*sent, return_exceptions=True)
    results = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        results.append(answer)
    return results


async def stop(producer: AIOKafkaProducer, *, timeout_s: float = _STOP_S) -> None:
    """Let go of a producer, whatever became of it.

    aiokafka's own ``stop`` waits until everything was delivered: for ever where no broker answers.
    """
    stopping = asyncio.ensure_future(producer.stop())
    stopping.add_done_callback(seen)
    done, _ = await asyncio.wait([stopping], timeout=timeout_s)
    if not done:
        sending = producer._sender.sender_task  # noqa: SLF001 - nothing public ends it
        if sending is not None:
            sending.cancel()
        await producer.client.close()
        stopping.cancel()
    # A producer that was fenced says so here once more; who used it knows already.
    waiters = [producer._txn_manager._transaction_waiter]  # noqa: SLF001 - likewise
    for batches in producer._message_accumulator._batches.values():  # noqa: SLF001 - likewise
        waiters += [batch._drain_waiter for batch in batches]  # noqa: SLF001 - likewise
    for waiter in waiters:
        if waiter is not None:
            waiter.add_done_callback(seen)
