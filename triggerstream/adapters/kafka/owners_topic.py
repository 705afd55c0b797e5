"""The claims of an app in its owners topic: one partition, compacted, without transactions."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType

from aiokafka import AIOKafkaProducer, TopicPartition

from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.kafka.cluster import describe
from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.fetches import UnreadableError, refuse_unfit
from triggerstream.adapters.kafka.records import read_range, readable_extents, reader_of
from triggerstream.adapters.kafka.sending import Entry, send_all
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.adapters.kafka.topics import TIMEOUT_S, Topics, address_of
from triggerstream.adapters.kafka.watch import refuse_made_again
from triggerstream.core import advice
from triggerstream.core.errors import LogError
from triggerstream.core.ids import AppId
from triggerstream.engine.partitioned.claims import Claimant, Claims
from triggerstream.engine.partitioned.ports import (
    TakeOverError,
    UnreadableTakeOverError,
)
from triggerstream.wire.claims import Claim, OwnerId, decode_claim, encode_claim, is_owner_id

PARTITION = 0


class KafkaOwnersTopic:
    """A :class:`triggerstream.engine.partitioned.claims.OwnersTopic`, with one idempotent producer.

    ``topic_id``: the id that the cluster gave to the topic, as it was found (empty: not known). ``others``:
    by name, the ids of the topics whose offsets the claims protect. A producer is not used again after a
    failure.
    """

    def __init__(
        self,
        connection: Connection,
        app: AppId,
        *,
        topic_id: str = "",
        others: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._connection = connection
        self._app = app
        self._topic_id = topic_id
        self._others = others
        self._place = TopicPartition(Topics.of(app).owners, PARTITION)
        self._producer: AIOKafkaProducer | None = None
        self._appending = asyncio.Lock()

    async def append(self, claims: Sequence[Claim]) -> int:
        """Append ``claims``; the offset after the last.

        Raises:
            TopicGoneError: one of the other topics was made again: its offsets would mean nothing.
            LogError: the owners topic was made again, or did not take them.
        """
        end = await self._append([(claim.id, encode_claim(claim)) for claim in claims])
        await self._refuse_other_topics()
        return end

    async def forget(self, ids: Collection[OwnerId]) -> None:
        await self._append([(id_, None) for id_ in ids])

    async def _refuse_other_topics(self) -> None:
        """Raise if a topic was made again since the process started.

        An owners topic that was made again does not have the claims of before, whose owners may live.
        """
        if not self._topic_id:
            return
        name = self._place.topic
        async with (
            translate_errors(f"cannot look at {name}", timeout_s=TIMEOUT_S),
            self._connection.client() as client,
        ):
            found = (await describe(client, [name, *self._others])).topics
        # Checked first, because the repair of these topics makes the owners topic again, too.
        refuse_made_again(found, self._others, repair=advice.rebuild(address_of(self._connection, self._app)))
        if name not in found or found[name].id != self._topic_id:
            raise LogError(
                f"{name} was deleted while this process ran: an owner may be at work whom nobody finds there"
            )

    async def _append(self, entries: Sequence[tuple[OwnerId, bytes | None]]) -> int:
        """Append ``entries``; the offset after the last."""
        if not entries:
            return 0
        topic, records = self._place.topic, [Entry(id_.encode(), value) for id_, value in entries]
        async with self._appending:
            try:
                async with translate_errors(f"{topic} did not take a claim", timeout_s=TIMEOUT_S):
                    if self._producer is None:
                        producer = self._connection.producer()
                        await self._connection.start(producer)
                        self._producer = producer
                    return await send_all(self._producer, PARTITION, [(topic, records)])
            except BaseException:
                await self.close()
                raise

    async def read(self, end: int) -> Mapping[OwnerId, Claim]:
        claims = await self._read(end)
        return {id_: claim for id_, claim in claims.items() if is_owner_id(self._app, id_)}

    async def current(self) -> Mapping[OwnerId, Claim]:
        """The claims that are not released now.

        Raises:
            LogError: they cannot be read.
        """
        try:
            return await self._read(None)
        except TakeOverError as exc:  # nobody takes anything over here
            raise LogError(str(exc)) from exc

    async def _read(self, end: int | None) -> Mapping[OwnerId, Claim]:
        """The claims below ``end``, or to the high watermark. Nothing transactional is written there.

        Raises:
            TakeOverError: some of them cannot be read, and no further attempt will read them.
            LogError: they cannot be read.
        """
        place, newest = self._place, dict[OwnerId, Claim | None]()
        try:
            async with reader_of(self._connection, place.topic, committed=False) as reader:
                begin, high_watermark = (await readable_extents(reader, [place]))[place]
                to = high_watermark if end is None else end
                async with aclosing(read_range(reader, place, begin, to)) as found:
                    async for records, _ in found:
                        refuse_unfit(records, place)
                        for record in records:
                            try:
                                id_ = OwnerId((record.key or b"").decode())
                            except UnicodeDecodeError:
                                continue  # no transactional id
                            newest[id_] = None if record.value is None else decode_claim(id_, record.value)
        except UnreadableError as exc:
            repair = advice.make_owners_again(
                address_of(self._connection, self._app),
                bootstrap=self._connection.bootstrap,
                topic=place.topic,
                lasting=exc.batch.lasting,
            )
            text = f"{exc}: the owner of a claim in it could not be fenced; {repair}"
            raise (TakeOverError(text) if exc.batch.lasting else UnreadableTakeOverError(text)) from exc
        return {id_: claim for id_, claim in newest.items() if claim is not None}

    async def close(self) -> None:
        """Close the connections."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)


def new_claims(
    ids: Sequence[OwnerId],
    partitions: Collection[int],
    *,
    owners: KafkaOwnersTopic,
    fencing: KafkaFencing,
    generation: int = -1,
) -> Claims:
    """The claims of an assignment of ``partitions`` to this process now; nothing is claimed yet."""
    return Claims(
        ids=ids,
        partitions=frozenset(partitions),
        owners=owners,
        fencing=fencing,
        claimant=Claimant(host=socket.gethostname(), pid=os.getpid()),
        since_us=SystemClock().now_us(),
        generation=generation,
    )


async def read_owners(connection: Connection, app: AppId) -> Sequence[Claim]:
    """The claims of ``app`` that are not released, the oldest first, for operators.

    Raises:
        LogError: they cannot be read.
    """
    found = await KafkaOwnersTopic(connection, app).current()
    return sorted(found.values(), key=lambda claim: (claim.since_us, claim.id))
