"""A changelog reader that ends leaves nobody waiting, whatever ends it; without a Kafka."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from triggerstream.adapters.kafka import changelogs
from triggerstream.adapters.kafka.changelogs import ChangelogReader
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.core.errors import LogError


async def read(reader: ChangelogReader, partition: int) -> None:
    async with aclosing(reader.read(partition, 0, 10)) as chunks:
        async for _ in chunks:
            pass


@pytest.mark.parametrize("is_cancelled_inside", [False, True])
async def test_all_callers_that_wait_get_the_error(
    monkeypatch: pytest.MonkeyPatch, *, is_cancelled_inside: bool
) -> None:
    opened, goes_on = asyncio.Event(), asyncio.Event()

    class Silent:
        """A client that does not answer."""

        async def __aenter__(self) -> None:
            opened.set()
            await goes_on.wait()
            raise asyncio.CancelledError

        async def __aexit__(self, *_: object) -> None:
            """Nothing was opened."""

    monkeypatch.setattr(changelogs, "reader_of", lambda *_, **__: Silent())
    reader = ChangelogReader(Connection(bootstrap="none:1"), "changelog")
    first = asyncio.create_task(read(reader, 0))
    await opened.wait()
    second = asyncio.create_task(read(reader, 1))
    await asyncio.sleep(0)
    if is_cancelled_inside:
        goes_on.set()
    else:
        await reader.close()
    async with asyncio.timeout(5):
        results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [LogError, LogError]
