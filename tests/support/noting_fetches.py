"""A worker that notes how much it fetches: ``python -m tests.support.noting_fetches FILE worker …``.

``FILE`` gets the most bytes of events in an answer of a broker, and of one partition in it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from triggerstream.cli import main


def note_fetches(file: Path) -> None:
    """Note the size of the answers to all fetches of this process from now on."""
    send = AIOKafkaClient.send
    most = [0, 0]

    def note() -> None:
        file.write_text(f"{most[0]} {most[1]}")

    async def noting(client: Any, node: int, request: Any, **named: Any) -> Any:  # noqa: ANN401 - aiokafka's
        answer = await send(client, node, request, **named)
        if isinstance(request, FetchRequest):
            parts = [
                len(place[-1] or b"")
                for topic, places in answer.topics
                if topic.endswith(".events")
                for place in places
            ]
            found = [sum(parts), max(parts, default=0)]
            most[:] = map(max, most, found)
            note()
        return answer

    AIOKafkaClient.send = noting


if __name__ == "__main__":
    note_fetches(Path(sys.argv[1]))
    main(sys.argv[2:])
