"""Sessions as they are read from a changelog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.places import KafkaPlace
from triggerstream.adapters.kafka import reader as readers
from triggerstream.adapters.kafka.reader import KafkaReader
from triggerstream.core.events import Retried, Started
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned import versions
from triggerstream.engine.queries.view import View
from triggerstream.wire import commands, tasksfile
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord

pytestmark = pytest.mark.kafka

SESSIONS = 10


@pytest.fixture
async def place(kafka: str, tmp_path: Path) -> AsyncIterator[KafkaPlace]:
    place = KafkaPlace(kafka, tmp_path)
    await place.create()
    yield place
    await place.close()


async def wait_for_retries(place: KafkaPlace, *sessions: str) -> None:
    """Let sessions wait for a timer: their task asks to be run again in an hour."""
    for session in sessions:
        await place.fire(session, "a")
    await place.fold()
    records = []
    for command in [commands.decode(value) for value in await place.decided()]:
        if command.session in sessions:
            began = Started(instance=command.instance, command=command.id)
            asks = Retried(instance=command.instance, command=command.id, after_us=3_600_000_000)
            records += [NewRecord(key=command.session.encode(), value=encode(one)) for one in (began, asks)]
    await place.log.append(records)
    await place.fold()


async def test_a_list_of_sessions_parses_each_tasks_file_once(
    place: KafkaPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.configure('{"t": {"after": ["a"], "run": "f"}}')
    await wait_for_retries(place, *(f"s{number}" for number in range(SESSIONS)))

    parsed: list[str] = []
    histories: list[object] = []
    parse, read = tasksfile.read, versions.read_history

    def count_parse(text: str | bytes, *, name: str) -> Any:  # noqa: ANN401 - as the original
        parsed.append(name)
        return parse(text, name=name)

    def count_history(*arguments: Any) -> Any:  # noqa: ANN401 - as the original
        histories.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(tasksfile, "read", count_parse)
    monkeypatch.setattr(readers, "read_history", count_history)
    configurations = ConfigurationCache()
    reader = KafkaReader(place.connection, place.app, configurations=configurations)
    view = View(reader, app=place.app, configurations=configurations)
    found = [due_us async for _, _, due_us in view.states()]
    assert len(found) == SESSIONS
    assert None not in found
    assert (await view.rules()).current.number == 1
    assert await view.explain("s1") is not None
    assert (len(parsed), len(histories)) == (1, 1)

    await place.configure('{"t": {"after": ["a", "b"], "run": "f"}}')
    await wait_for_retries(place)
    found = [due_us async for _, _, due_us in view.states()]
    assert None not in found
    assert (await view.rules()).current.number == 2
    assert (configurations.parsed, len(histories)) == (2, 2)
    await reader.close()
