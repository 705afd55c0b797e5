"""README's "Use it", followed to the letter with real processes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.dev import Project, dev
from tests.test_docs import ROOT
from tests.test_snippets import blocks

pytestmark = [pytest.mark.slow, pytest.mark.celery]

README = ROOT / "README.md"


class Followed(Project):
    """A directory with the files that README has one write."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.tasks = place / "tasks.json"
        text = blocks(README, "jsonc")[0]
        self.tasks.write_text(text)
        module = blocks(README, "python")[0]
        file = place / module.partition("\n")[0].removeprefix("# ")
        file.parent.mkdir()
        file.write_text(module)


def test_use_it_as_written_runs_the_task_and_explains_the_session(tmp_path: Path) -> None:
    project = Followed(tmp_path)
    shown = [
        shlex.split(line.removeprefix("$ triggerstream "))
        for block in blocks(README, "console")
        for line in block.splitlines()
        if line.startswith("$ triggerstream ")
    ]
    check, started, fire, explain = shown
    assert [words[0] for words in (started, fire, explain)] == ["dev", "fire", "sessions"]
    checked = project.run(*check)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with dev(project, *started[1:]) as running:
        running.wait_for_lines("ready")
        assert project.run(*fire).stderr == ""
        assert "module4Received: not arrived" in project.run(*explain).stdout
        client = blocks(README, "python")[1]
        ran = subprocess.run(
            [sys.executable, "-c", client],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        (finished,) = running.wait_for_lines("finished")
        assert finished["result"] == {"total": 6}

        (curl,) = re.findall(
            r"^\$ curl -d '(.*)' http://127.0.0.1:8777(\S+)", README.read_text(), re.MULTILINE
        )
        data, path = curl
        assert project.run(*fire[:1], "43", *fire[2:]).returncode == 0
        request = urllib.request.Request(  # noqa: S310 - our own
            running.url + path.replace("/42/", "/43/"), data=data.encode(), method="POST"
        )
        # As curl sends it with -d.
        request.add_header("Content-Type", "application/x-www-form-urlencoded")
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            assert answer.status == 202
        assert running.wait_for_lines("finished", 2)[1]["session"] == "43"
        assert running.lines_of("warnings") == []
    assert (tmp_path / ".triggerstream").is_dir()
