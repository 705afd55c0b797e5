"""The promises of every Reader and Archive about instances that have left their session's state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.places import KAFKA, Place, place_of
from tests.contract.test_archive import ignore
from triggerstream.adapters.memory import ManualClock
from triggerstream.core.events import Cancel, Erase
from triggerstream.core.ids import InstanceId, SessionId, TaskName
from triggerstream.core.projections import statuses
from triggerstream.core.retired import KEPT_RESOLVED
from triggerstream.engine.ports import Reader
from triggerstream.engine.replay.archive import fold_on, refold_of
from triggerstream.engine.replay.refold import differences
from triggerstream.engine.whole_sessions import retired_keys, whole_session
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord
from triggerstream.wire.retired import RetiredKey, encode_key

TASKS = '{"t": {"after": ["b"], "andEvery": "a", "run": "tasks.t"}}'
COUNT = KEPT_RESOLVED + 4
ODD = SessionId("ü:#0\x00x")
"""An id with every character that a key has between its parts."""


ALL = ["memory", "sqlite", "memory partition", KAFKA]
WITH_READER = pytest.mark.parametrize("place", ["memory", "sqlite", KAFKA], indirect=True)


@pytest.fixture(params=ALL)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Two sessions with more cancelled instances than stay in a state; the id of one begins the other's."""
    place = await place_of(request.param, request, tmp_path, ManualClock())
    await place.configure(TASKS)
    for session in ("s", ODD, "s1"):
        await resolve(place, session)
    await place.fold()
    yield place
    await place.close()


async def resolve(place: Place, session: str) -> None:
    """Make instances and cancel them."""
    await place.fire(session, *["a"] * COUNT)
    orders = [encode(Cancel(instance=InstanceId(f"t#{n}"))) for n in range(COUNT)]
    await place.log.append([NewRecord(key=session.encode(), value=order) for order in orders])


async def keys_of(reader: Reader, session: str) -> list[RetiredKey]:
    row = await reader.session(SessionId(session))
    assert row is not None
    return retired_keys(row.id, row.known())


@WITH_READER
async def test_entries_are_read_by_the_keys_that_a_state_names(place: Place) -> None:
    reader = place.reader()
    for session in ("s", ODD):
        keys = await keys_of(reader, session)
        assert keys == [(session, "t", n) for n in range(COUNT - KEPT_RESOLVED)]
        absent = RetiredKey(SessionId(session), TaskName("t"), COUNT)
        assert (await reader.retired([*keys, absent])).keys() == set(keys)
        row = await reader.session(SessionId(session))
        assert row is not None
        whole = await whole_session(reader, row.id, row.known())
        assert [*statuses(whole)] == [f"t#{n}" for n in range(COUNT)]
        assert whole.stored_kwargs(whole.tasks[TaskName("t")].resolved[0]) == {"a": {}}
    assert await reader.retired([]) == {}


@WITH_READER
async def test_a_list_of_sessions_has_no_entries(place: Place) -> None:
    reader = place.reader()
    assert [row.id for row in await reader.sessions()] == ["s", "s1", ODD]


@WITH_READER
async def test_an_erased_session_has_no_entries_and_others_keep_theirs(place: Place) -> None:
    reader = place.reader()
    keys = await keys_of(reader, "s")
    await place.log.append([NewRecord(key=b"s", value=encode(Erase()))])
    await place.fold()
    assert await keys_of(reader, "s") == []
    assert await reader.retired(keys) == {}
    others = await keys_of(reader, "s1")
    assert (await reader.retired(others)).keys() == set(others)


async def test_a_replay_compares_entries_and_brings_them_back(place: Place) -> None:
    await place.stop()
    archive = place.archive()
    await archive.fence()
    kept = await archive.kept()
    assert kept.offset is not None
    refold = refold_of(archive, kept)
    await fold_on(archive, refold, 0, kept.offset, ignore)
    right = refold.result()
    first = RetiredKey(SessionId("s"), TaskName("t"), 0)
    ghost = RetiredKey(SessionId("s"), TaskName("t"), 99)
    assert list(differences(right, kept)) == []
    assert len(right.retired) == 3 * (COUNT - KEPT_RESOLVED)
    assert kept.retired == {encode_key(key): entry for key, entry in right.retired.items()}
    changed = right.retired[first].replace(b'"cancelled"', b'"finished"')
    entries = {key: entry for key, entry in right.retired.items() if key.number != 1}
    damaged = replace(right, retired={**entries, first: changed, ghost: changed})
    await archive.replace(damaged, offset=kept.offset)
    found = await archive.kept()
    places = {(one.session, one.place) for one in differences(right, found)}
    assert places == {
        ("s", "/retired/t#0/instance/status"),
        ("s", "/retired/t#99"),
        *((session, "/retired/t#1") for session in ("s", "s1", ODD)),
    }
    await archive.replace(right, offset=kept.offset)
    assert list(differences(right, await archive.kept())) == []
    await archive.close()


async def test_an_engine_goes_on_with_entries_where_it_was(place: Place) -> None:
    await place.stop()
    await place.fire("s", "a")
    await place.log.append([NewRecord(key=b"s", value=encode(Cancel(instance=InstanceId(f"t#{COUNT}"))))])
    await place.fold()
    archive = place.archive()
    kept = await archive.kept()
    refold = refold_of(archive, kept)
    await fold_on(archive, refold, 0, kept.offset or 0, ignore)
    assert list(differences(refold.result(), kept)) == []
    assert encode_key(RetiredKey(SessionId("s"), TaskName("t"), COUNT - KEPT_RESOLVED)) in kept.retired
