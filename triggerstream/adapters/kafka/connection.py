"""Connects every Kafka client of the project to the cluster, and translates its errors."""

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
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    ProducerFenced,
)

from triggerstream.adapters.kafka.answers import RETRY_MS, LastBrokerAnswer, note_answers, watch_answers
from triggerstream.adapters.kafka.fetches import AS_PARSED, use_batch_reader
from triggerstream.adapters.kafka.refusal import refusal
from triggerstream.adapters.kafka.security import PLAINTEXT, Security
from triggerstream.adapters.kafka.stopping import Client, retrieve_error, stop
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.loglimit import limit_library
from triggerstream.engine.partitioned.ports import FencedError
from triggerstream.wire.records import NewRecord

_T = TypeVar("_T")
_C = TypeVar("_C", AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient, AIOKafkaClient)

_TRIED = re.compile(r"\('([^']+)', ([0-9]+), ")

BATCH_BYTES = 512 * 1024
"""Maximum bytes of a record batch. Only a batch of a single record may be longer."""
LONGEST_REQUEST_BYTES = 16 * 1024 * 1024
"""Above the longest state; the real bound is a topic's ``max.message.bytes``, which the broker checks."""
_REQUEST_TIMEOUT_MS = 10_000
"""Time without an answer after which another connection is tried. aiokafka's default is 40 s."""
DEFAULT_TRANSACTION_S = 10.0
"""Maximum time for which a dead process's transaction can block readers if no process takes over from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The cluster's address: ``bootstrap`` is ``host:port``, or several with commas between them.

    ``answers`` records when brokers last answered its producers.
    """

    bootstrap: str
    client_id: str = "triggerstream"
    security: Security = PLAINTEXT
    answers: LastBrokerAnswer = field(default_factory=LastBrokerAnswer, compare=False, repr=False)

    def options(self) -> dict[str, Any]:
        """The options of every aiokafka client.

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
        """``record`` as it is appended: engine events are signed if there is a control key."""
        control = self.security.control
        return record if control is None else control.signed(app, record, now_us=time.time_ns() // 1_000)

    @asynccontextmanager
    async def running(self, client: _C) -> AsyncIterator[_C]:
        """Start ``client``, and stop it when the block ends, also after an error.

        Raises:
            UsageError, KafkaError: as :meth:`start`.
        """
        await self.start(client)
        try:
            yield client
        finally:
            await stop(client)

    async def start(self, client: Client) -> None:
        """Connect ``client``. If that fails or is cancelled, ``client`` is stopped.

        Raises:
            UsageError: brokers refuse the client; the message says why.
            KafkaError: no broker can be reached.
        """
        limit_library("aiokafka")
        starting = asyncio.ensure_future(
            client.bootstrap() if isinstance(client, AIOKafkaClient) else client.start()
        )
        starting.add_done_callback(retrieve_error)
        try:
            await asyncio.shield(starting)
        except BaseException as exc:
            await stop(client, starting=starting)
            if isinstance(exc, KafkaConnectionError):
                await self._explain(exc)
            raise

    async def _explain(self, exc: KafkaConnectionError) -> None:
        """Raise an error with the reason if a broker refuses the client.

        aiokafka only logs a refusal, and tries the next broker.
        """
        for host, port, _ in collect_hosts(self.bootstrap):
            why = await refusal(host, port, security=self.security, client_id=self.client_id)
            if why is not None:
                raise UsageError(f"{host}:{port} {why}") from exc

    def producer(
        self, *, transactional_id: str | None = None, transaction_s: float = DEFAULT_TRANSACTION_S
    ) -> AIOKafkaProducer:
        """An idempotent producer for the running event loop, not started yet."""
        transactional = {
            "transactional_id": transactional_id,
            "transaction_timeout_ms": round(transaction_s * 1000),
            "retry_backoff_ms": RETRY_MS,
        }
        producer = AIOKafkaProducer(
            **self.options(),
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=LONGEST_REQUEST_BYTES,
            **(transactional if transactional_id is not None else {}),
        )
        watch = note_answers if transactional_id is None else watch_answers
        watch(producer.client, self.answers)
        return producer

    def reader(
        self,
        *,
        wait_ms: int = 250,
        committed: bool = True,
        most_bytes: int | None = None,
        parsed: bool = False,
    ) -> AIOKafkaConsumer:
        """A consumer that belongs to no group, not started yet.

        With ``committed`` it reads committed records, up to the first open transaction; otherwise all
        records. ``wait_ms``: how long a broker may wait for records. It answers later requests after that.
        ``most_bytes``: bytes of all partitions in one answer; None: as aiokafka has it. ``parsed``: its
        records are the parser's, without a conversion (``AS_PARSED``), which costs least.
        """
        return self._consumer(
            group_id=None,
            isolation_level="read_committed" if committed else "read_uncommitted",
            fetch_max_wait_ms=wait_ms,
            value_deserializer=AS_PARSED if parsed else None,
            **({} if most_bytes is None else {"fetch_max_bytes": most_bytes}),
        )

    def member(self, group: str, *, name: str | None = None, **timing: int) -> AIOKafkaConsumer:
        """A consumer that may commit offsets of ``group``, not started yet; it reads committed records.

        It becomes a member when it subscribes to a topic. ``name``: makes it a static member; ``timing``:
        aiokafka's settings of the same names.
        """
        return self._consumer(
            group_id=group, group_instance_id=name, isolation_level="read_committed", **timing
        )

    def admin(self) -> AIOKafkaAdminClient:
        """A client that asks about groups and changes offsets, not started yet."""
        return AIOKafkaAdminClient(**self.options())

    def _consumer(self, **options: Any) -> AIOKafkaConsumer:  # noqa: ANN401 - aiokafka's options
        """A consumer, not started yet, that commits nothing by itself and skips nothing.

        Read from it with :func:`triggerstream.adapters.kafka.batches.fetched`.
        """
        use_batch_reader()
        return AIOKafkaConsumer(
            **self.options(), enable_auto_commit=False, auto_offset_reset="none", **options
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AIOKafkaClient]:
        """A connected client for requests that are not sent by a consumer or producer.

        Raises:
            UsageError, KafkaError: as :meth:`start`.
        """
        async with self.running(AIOKafkaClient(**self.options())) as client:
            yield client


def answered_at(consumer: AIOKafkaConsumer) -> float:
    """Monotonic time of the last answer of a broker over a connection of ``consumer``.

    Minus infinity without a connection. Heartbeats and fetches are answered at least every few seconds.
    """
    connections = list(consumer._client._conns.values())  # noqa: SLF001 - nothing public tells
    return max((connection._last_action for connection in connections), default=-math.inf)  # noqa: SLF001 - nothing public


@asynccontextmanager
async def translate_errors(what: str, *, timeout_s: float | None = None) -> AsyncIterator[None]:
    """Translate errors, and bound the block's time. ``what`` begins the message: ``cannot read the events``.

    Raises:
        FencedError: another producer with the same transactional id has fenced the block's.
        LogError: in place of errors of aiokafka and the network, and after the time limit. It is then unknown
            whether a write has succeeded.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as exc:
        after = "" if timeout_s is None else f" within {timeout_s:g} s"
        raise LogError(f"{what}: no answer{after}") from exc
    except ProducerFenced as exc:
        raise FencedError(f"{what}: another process has taken over") from exc
    except (KafkaError, IllegalOperation, OSError, NotImplementedError, AssertionError) as exc:
        # aiokafka asserts the state of a transaction, which an earlier error has changed.
        raise LogError(f"{what}: {_error_text(exc)}") from exc


def _error_text(exc: Exception) -> str:
    """A message for ``exc``: that of aiokafka, or a clearer one."""
    if isinstance(exc, NodeNotReadyError):
        # Its message names the broker by number, or as None if the cluster lists none at this moment.
        return "the cluster has no broker ready to answer now: try again in a moment"
    tried = _TRIED.findall(str(exc)) if isinstance(exc, KafkaConnectionError) else []
    if not tried:
        return str(exc) or repr(exc)
    return f"no Kafka answers at {', '.join(f'{host}:{port}' for host, port in tried)}"


async def gather_all(sent: Iterable[Awaitable[_T]]) -> list[_T]:
    """The results of ``sent``. If some fail, the first error is raised after all have ended."""
    answers = await asyncio.gather(*sent, return_exceptions=True)
    results = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        results.append(answer)
    return results
