"""The parts of `dev`: one that ends when it should not ends all of it, and is named."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path

import pytest
from aiohttp import ClientSession

from triggerstream.adapters.sqlite.log import SqliteLog
from triggerstream.cli.dev.children import Child
from triggerstream.cli.dev.runtime import Runtime, Setup
from triggerstream.cli.tasks_file import load
from triggerstream.engine.background import TaskEndedError
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.web import serving
from triggerstream.wire.records import NewRecord
from triggerstream.wire.tasksfile import jsonc, reader
from triggerstream.wire.tasksfile.tree import Document


async def ends(*_: object) -> None:
    raise ValueError("odd")


@pytest.mark.parametrize(
    ("owner", "name", "says"),
    [
        (EmbeddedInspector, "run", "the background task `index of sessions` has ended: ValueError: odd"),
        (serving, "_accept_for_ever", "the background task `connections of http://127.0.0.1:"),
    ],
)
async def test_a_part_that_ends_is_raised_to_who_waits(
    owner: object, name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, ends)
    setup = Setup(directory=tmp_path / "state", celery=None, broker=None, port=0, concurrency=1)
    async with Runtime(setup, on_checkpoint=lambda _: None, write_line=lambda _who, _line: None) as runtime:
        with pytest.raises(TaskEndedError, match=says):
            async with asyncio.timeout(60):
                await runtime.ended()


async def test_a_tasks_file_is_parsed_once_for_each_apply_of_dev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    parse = jsonc.parse

    def count(text: str | bytes) -> Document:
        parsed.append(len(text))
        return parse(text)

    monkeypatch.setattr(reader, "parse", count)
    file = tmp_path / "tasks.json"
    file.write_text('{"t": {"after": ["a"], "run": "f"}}', encoding="utf-8")
    setup = Setup(directory=tmp_path / "state", celery=None, broker=None, port=0, concurrency=1)
    starting = Runtime(setup, on_checkpoint=lambda _: None, write_line=lambda _who, _line: None)
    config = load(file, starting.configurations)
    async with starting as runtime:
        assert await runtime.engine.apply(config.text, name=str(file))
        async with asyncio.timeout(60):
            log = SqliteLog(runtime.address.path)
            await log.append([NewRecord(key=b"42", value=b'{"type":"a"}')])
            await runtime.engine.reached(2)
        await log.close()
        assert await runtime.view.explain("42") is not None
        async with ClientSession() as client, client.get(f"{runtime.url}/sessions/42") as answer:
            assert answer.status == HTTPStatus.OK
        assert len(parsed) == 1
        file.write_text('{"t": {"after": ["a", "b"], "run": "f"}}', encoding="utf-8")
        changed = load(file, runtime.configurations)
        assert await runtime.engine.apply(changed.text, name=str(file))
        assert not await runtime.engine.apply(changed.text, name=str(file))
        async with ClientSession() as client, client.get(f"{runtime.url}/configuration") as answer:
            assert answer.status == HTTPStatus.OK
        assert await runtime.view.explain("42") is not None
    assert len(parsed) == 2


async def test_a_child_whose_output_nobody_reads_is_no_child_that_runs() -> None:
    def broken(_line: str) -> None:
        raise BrokenPipeError

    child = await Child.start(["sh", "-c", "echo x; sleep 600"], output=broken, grace_s=1)
    with pytest.raises(BrokenPipeError):
        async with asyncio.timeout(60):
            await child.wait()
    with pytest.raises(BrokenPipeError):
        await child.stop()
    assert child.returncode is not None
