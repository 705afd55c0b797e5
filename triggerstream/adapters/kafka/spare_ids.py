"""Spare transactional ids of a group: kept alive, used by transactions that are given up, and renewed."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from aiokafka import TopicPartition

from triggerstream.adapters.kafka.fencing import KafkaFencing
from triggerstream.adapters.kafka.stopping import retrieve_error
from triggerstream.adapters.kafka.transactional_ids import InitialisedId
from triggerstream.core.errors import LogError
from triggerstream.engine.partitioned.ports import FencedError

logger = logging.getLogger(__name__)

AGAIN_S = 0.5
"""Pause before a question is repeated, while a partition or a coordinator is away."""
_KEEP_S = 86_400.0
"""Interval at which spare ids get a transaction without records. Brokers forget an idle id after 7 days."""


class SpareIds:
    """Claimed transactional ids that no producer uses now. ``place``: a partition of the assignment.

    A transaction of an id that is spare again may take ``transaction_s``.
    """

    def __init__(self, fencing: KafkaFencing, *, place: TopicPartition, transaction_s: float) -> None:
        self._fencing = fencing
        self._place = place
        self._transaction_s = transaction_s
        self._keeping: asyncio.Task[None] | None = None
        self.ids: deque[InitialisedId] = deque()
        self.aborting: set[asyncio.Task[None]] = set()
        """A task for each transaction that was given up and is not aborted yet."""

    def start(self, ids: Iterable[InitialisedId]) -> None:
        """Add the ids that are spare from the beginning on, and keep all alive until this is closed."""
        self.ids.extend(ids)
        if self.ids:
            self._keeping = asyncio.create_task(self._keep_alive())
            self._keeping.add_done_callback(retrieve_error)

    def abort(self, former: InitialisedId) -> None:
        """Have the transaction of ``former`` aborted; its producer is closed. Then the id is spare again."""
        aborting = asyncio.create_task(self._abort(former))
        self.aborting.add(aborting)
        aborting.add_done_callback(self.aborting.discard)
        aborting.add_done_callback(retrieve_error)

    async def wait_until_aborted(self, *, within_s: float) -> int:
        """Wait until all is aborted, at most ``within_s``; the number of transactions that are not."""
        if self.aborting:
            await asyncio.wait(self.aborting, timeout=within_s)
        return len(self.aborting)

    async def close(self) -> None:
        """End what is under way."""
        tasks = {*self.aborting, *(() if self._keeping is None else (self._keeping,))}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_S)
            # None may be taken meanwhile: its transaction would be aborted. After an error it is not
            # known whether the request is still under way, so the ids are not used any more.
            kept, self.ids = self.ids, deque()
            with suppress(LogError):
                await self._fencing.keep_alive(list(kept), self._place)
                self.ids.extend(kept)

    async def _abort(self, former: InitialisedId) -> None:
        """Repeat the question until the transaction is aborted: as long as one of its partitions is away."""
        while True:
            try:
                renewed = await self._fencing.renew(former, transaction_s=self._transaction_s)
            except FencedError as exc:  # if all ids are fenced, the next transaction has the error
                logger.info("a transactional id is not used again", extra={"error": str(exc)})
                return
            except LogError as exc:
                logger.info("a transaction is not aborted yet", extra={"error": str(exc)})
                await asyncio.sleep(AGAIN_S)
            else:
                if renewed is not None:
                    self.ids.append(renewed)
                return
