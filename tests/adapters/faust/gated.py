"""A worker that waits at gates: ``python -m tests.adapters.faust.gated FOLDER worker …``.

It waits for as long as there is a file in the folder: ``recovery`` before it reads a changelog, ``loop``
before each chunk of one, with its event loop, ``intake`` before each fetch, ``end`` before it ends. While it
waits elsewhere than with its event loop, there is another file whose name ends in ``.reached``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from triggerstream.adapters.faust.app import WorkerApp
from triggerstream.adapters.faust.transport import Consumer
from triggerstream.adapters.kafka.ledger import KafkaLedger
from triggerstream.cli import main

_POLL_S = 0.02


def build(folder: Path) -> None:
    """Put the gates up."""
    changelog = KafkaLedger.changelog
    hand_over, close_clients = Consumer._hand_over, WorkerApp.close_clients  # noqa: SLF001 - nothing public is

    async def opened(name: str) -> None:
        while (folder / name).exists():
            (folder / f"{name}.reached").touch()
            await asyncio.sleep(_POLL_S)

    async def gated_changelog(
        self: KafkaLedger, begin: int, end: int
    ) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
        await opened("recovery")
        async for piece in changelog(self, begin, end):
            while (folder / "loop").exists():
                time.sleep(_POLL_S)  # noqa: ASYNC251 - the event loop stands still
            yield piece

    async def gated_hand_over(self: Consumer) -> None:
        await opened("intake")
        await hand_over(self)

    async def gated_close(self: WorkerApp) -> None:
        await opened("end")
        await close_clients(self)

    KafkaLedger.changelog = gated_changelog  # type: ignore[method-assign] # a gate
    Consumer._hand_over = gated_hand_over  # type: ignore[method-assign] # noqa: SLF001 - a gate
    WorkerApp.close_clients = gated_close  # type: ignore[method-assign] # a gate


if __name__ == "__main__":
    build(Path(sys.argv[1]))
    main(sys.argv[2:])
