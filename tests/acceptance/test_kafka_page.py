"""docs/kafka.md, "In order": its commands are carried out one after the other, as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.dev import TRIGGERSTREAM, Project
from tests.support.valkey import valkey_server
from tests.support.waiting import wait_until
from tests.test_docs import ROOT
from triggerstream.core.ids import AppId

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kafka,
    pytest.mark.celery,
    pytest.mark.usefixtures("needs_kafka"),
]

_ON = {"worker", "bridge"}
"""Commands that run until they are ended."""


def commands() -> list[str]:
    """The commands of the section, in its order."""
    page = (ROOT / "docs/kafka.md").read_text(encoding="utf-8")
    section = page.partition("\n## In order\n")[2].partition("\n## ")[0]
    return re.findall(r"^ *\$ (.*)$", section, re.MULTILINE)


@contextmanager
def running(words: list[str], *, cwd: Path, env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, cwd=cwd, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
        assert process.poll() is None, log.read_text(errors="replace")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.timeout(600)
def test_the_commands_in_order_run_the_survey(kafka: str, kafka_app: AppId, tmp_path: Path) -> None:
    project = Project(tmp_path / "survey")
    shown = commands()
    assert shown[0] == "export TRIGGERSTREAM_AT=kafka://127.0.0.1:9092/triggerstream"
    address = f"kafka://{kafka}/{kafka_app}"
    programs = {"triggerstream": str(TRIGGERSTREAM), "celery": str(TRIGGERSTREAM.with_name("celery"))}
    with ExitStack() as processes:
        broker = processes.enter_context(valkey_server())
        env = {**os.environ, "TRIGGERSTREAM_AT": address, "CELERY_BROKER_URL": broker, "PYTHONPATH": "."}
        for number, line in enumerate(shown[1:-1]):
            text = line.replace("kafka://127.0.0.1:9092/triggerstream", address)
            words = shlex.split(text.replace("/var/lib/triggerstream", str(tmp_path / "state")))
            own = dict(env)
            while "=" in words[0]:
                name, _, value = words.pop(0).partition("=")
                own[name] = value
            tool = words[0]
            words[0] = programs[tool]
            if tool == "celery" or words[1] in _ON:
                log = tmp_path / f"{number}.log"
                processes.enter_context(running(words, cwd=project.place, env=own, log=log))
                continue
            ran = subprocess.run(
                words, cwd=project.place, env=own, capture_output=True, text=True, check=False, timeout=120
            )
            assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
        last = [programs["triggerstream"], *shlex.split(shown[-1])[1:]]

        def finished() -> bool:
            ran = subprocess.run(
                last, cwd=project.place, env=env, capture_output=True, text=True, check=False, timeout=60
            )
            return "returned" in ran.stdout

        wait_until(finished, within_s=120, what="the task has not finished")
    assert project.ran() == ["participant-7"]
