"""A worker that notes what it keeps in memory: ``python -m tests.support.noting_memory FILE worker …``.

``FILE`` gets a :class:`Noted` as JSON after each fetch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from triggerstream.adapters.faust.transport import Consumer
from triggerstream.cli import main


class Noted(msgspec.Struct):
    """Most bytes of events in an answer of a broker, and of one partition in it; what Faust keeps of batches.

    ``handed_over``: the number of fetches; ``offsets`` and ``messages``: how many of each Faust has.
    """

    answer: int = 0
    partition: int = 0
    handed_over: int = 0
    offsets: int = 0
    messages: int = 0


def note_fetches(noted: Noted) -> None:
    """Note the size of the answers to all fetches of this process from now on."""
    send = AIOKafkaClient.send

    async def noting(client: Any, node: int, request: Any, **named: Any) -> Any:  # noqa: ANN401 - aiokafka's
        answer = await send(client, node, request, **named)
        if isinstance(request, FetchRequest):
            parts = [
                len(place[-1] or b"")
                for topic, places in answer.topics
                if topic.endswith(".events")
                for place in places
            ]
            noted.answer = max(noted.answer, sum(parts))
            noted.partition = max(noted.partition, *parts, 0)
        return answer

    AIOKafkaClient.send = noting


def note_batches(noted: Noted, file: Path) -> None:
    """Note what Faust keeps of the batches that were handed over, and write ``noted`` to ``file``."""
    hand_over = Consumer._hand_over  # noqa: SLF001 - the way of every batch

    async def noting(consumer: Consumer) -> None:
        await hand_over(consumer)
        noted.handed_over += 1
        acked = [*consumer._acked.values(), *consumer._acked_index.values()]  # noqa: SLF001 - Faust's
        noted.offsets = sum(map(len, acked))
        noted.messages = len(consumer._unacked_messages)  # noqa: SLF001 - Faust's
        write(file, noted)

    Consumer._hand_over = noting  # type: ignore[assignment,method-assign] # noqa: SLF001 - for one process


def write(file: Path, noted: Noted) -> None:
    """Write ``noted`` so that a reader finds all of it, or what was there before."""
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(noted))
    new.rename(file)


if __name__ == "__main__":
    found = Noted()
    note_fetches(found)
    note_batches(found, Path(sys.argv[1]))
    main(sys.argv[2:])
