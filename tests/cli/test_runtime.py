"""The parts of `dev`: one that ends when it should not ends all of it, and is named."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.cli.conftest import Cli
from tests.support.waiting import eventually
from triggerstream.adapters.clock import SystemClock
from triggerstream.adapters.sqlite.log import SqliteLog
from triggerstream.cli.dev.children import Child
from triggerstream.cli.dev.runtime import Runtime, Setup
from triggerstream.cli.tasks_file import load
from triggerstream.engine.background import TaskEndedError
from triggerstream.engine.clock_step import ClockReading
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


async def test_dev_accepts_nothing_while_the_clock_is_ahead_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    forward_us = 0
    real = SystemClock.reading

    def reading(clock: SystemClock) -> ClockReading:
        found = real(clock)
        return found._replace(now_us=found.now_us + forward_us)

    monkeypatch.setattr(SystemClock, "reading", reading)
    monkeypatch.setattr("triggerstream.cli.dev.runtime.CLOCK_PAUSE_S", 0.02)
    cli = Cli(tmp_path / "state")
    setup = Setup(directory=cli.directory, celery=None, broker=None, port=0, concurrency=1)

    def starting(setup: Setup) -> Runtime:
        return Runtime(setup, on_checkpoint=lambda _: None, write_line=lambda _, line: lines.append(line))

    async def post(runtime: Runtime) -> tuple[int, str]:
        body = {"session": "s", "type": "a"}
        async with ClientSession() as client, client.post(f"{runtime.url}/v1/events", json=body) as answer:
            return answer.status, await answer.text()

    async def said(text: str) -> None:
        await eventually(lambda: any(text in line for line in lines), what=lambda: lines)
        lines.clear()

    async with starting(setup) as runtime:
        assert (await post(runtime))[0] == HTTPStatus.ACCEPTED
        forward_us = 400 * 24 * 3600 * 1_000_000
        await said("set forward by 400 days")
        status, text = await post(runtime)
        assert (status, "set forward by 400 days" in text) == (HTTPStatus.SERVICE_UNAVAILABLE, True)
        fired = await asyncio.to_thread(cli, "fire", "s", "a", "--timeout", "0.1")
        assert (fired.status, "--accept-clock" in fired.err) == (2, True)
        forward_us = 0
        await said("the clock is back")
        assert (await post(runtime))[0] == HTTPStatus.ACCEPTED
        forward_us = 400 * 24 * 3600 * 1_000_000
        await said("set forward by 400 days")
    async with starting(setup) as runtime:
        await said("set forward by 400 days")
        assert (await post(runtime))[0] == HTTPStatus.SERVICE_UNAVAILABLE
    async with starting(replace(setup, accept_clock=True)) as runtime:
        assert (await post(runtime))[0] == HTTPStatus.ACCEPTED
    assert lines == []
    # The event arrived in 400 days, which is in the future once the clock is right.
    forward_us = 0
    async with starting(setup) as runtime:
        await said("the log ends in the future, 400 days from now")
        assert (await post(runtime))[0] == HTTPStatus.ACCEPTED
    doctor = await asyncio.to_thread(cli, "doctor")
    assert "the log ends in the future, 400 days from now" in doctor.out
    for command in (("show", "s"), ("explain", "s")):
        shown = " ".join((await asyncio.to_thread(cli, "sessions", *command)).out.split())
        assert "its clock is 400 days ahead" in shown
    assert "400 days ahead" in (await asyncio.to_thread(cli, "sessions", "list")).out
