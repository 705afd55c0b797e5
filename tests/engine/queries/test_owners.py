"""Owners of partitions as pages and `doctor` show them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from triggerstream.core.answers import OwnerRow
from triggerstream.core.errors import LogError
from triggerstream.core.ids import Instant
from triggerstream.engine.queries.owners import RecentOwners, owner_rows
from triggerstream.present import words
from triggerstream.wire.claims import Claim, OwnerId


def claim(number: int, *partitions: int, since_us: int = 5, pid: int = 7, generation: int = 2) -> Claim:
    return Claim(
        id=OwnerId(f"app-w-{number}"),
        partitions=frozenset(partitions),
        host="here",
        pid=pid,
        since_us=since_us,
        generation=generation,
    )


def row(*partitions: int, since_us: int = 5, pid: int = 7, generation: int | None = 2) -> OwnerRow:
    return OwnerRow(
        host="here", pid=pid, since_us=Instant(since_us), generation=generation, partitions=list(partitions)
    )


def test_the_claims_of_a_process_are_one_row_and_the_oldest_comes_first() -> None:
    claims = [claim(1, 3), claim(2, 0), claim(3, 0, 3), claim(4, 9, since_us=4, pid=8, generation=-1)]
    assert owner_rows(claims) == [row(9, since_us=4, pid=8, generation=None), row(0, 3)]
    assert owner_rows([]) == []
    unknown = Claim(id=OwnerId("app-w-9"), partitions=None)
    assert owner_rows([unknown])[0].partitions == []


def test_an_owner_is_said_with_its_partitions() -> None:
    since = "since 1970-01-01T00:00:00"
    assert words.owner(row(0, 1, 2, 7)).startswith(f"here, process 7: partitions 0-2, 7, {since}")
    assert words.owner(row(4)).startswith(f"here, process 7: partition 4, {since}")
    assert words.owner(row()).startswith(f"here, process 7: partitions none, {since}")


async def test_the_topic_is_read_once_for_pages_that_follow_each_other_and_again_after_a_failure() -> None:
    reads: list[Sequence[Claim] | None] = [None, [claim(1, 0)], [claim(1, 1)]]

    async def read() -> Sequence[Claim]:
        found = reads.pop(0)
        if found is None:
            raise LogError("no answer")
        return found

    owners = RecentOwners(read)
    assert await owners.rows() == []
    assert await owners.rows() == [row(0)]
    assert await owners.rows() == [row(0)]
    assert len(reads) == 1


async def test_a_page_does_not_wait_for_a_topic_that_is_not_read_soon() -> None:
    answer = asyncio.Event()

    async def read() -> Sequence[Claim]:
        await answer.wait()
        return [claim(1, 0)]

    owners = RecentOwners(read)
    async with asyncio.timeout(30):
        assert await owners.rows() == []
        answer.set()
        while await owners.rows() != [row(0)]:
            pass


async def test_a_reading_of_the_topic_ends_with_the_pages() -> None:
    ended = False

    async def read() -> Sequence[Claim]:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True
        return []

    owners = RecentOwners(read)
    assert await owners.rows() == []
    await owners.close()
    assert ended
    await owners.close()
