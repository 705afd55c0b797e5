"""`triggerstream dev` as a real process, and what it starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until
from triggerstream.demo import SURVEY

TRIGGERSTREAM = Path(sys.executable).with_name("triggerstream")


class Project:
    """The survey's project in a directory of its own: `survey.json` and the package `my_app`.

    Or another one, that of the folder ``source``; its tasks file has the folder's name.
    """

    def __init__(self, place: Path, source: Path = SURVEY) -> None:
        self.place = place
        shutil.copytree(source, place, dirs_exist_ok=True)
        self.tasks = place / f"{source.name}.json"

    def results(self) -> list[dict[str, Any]]:
        """The notes of the tasks themselves, in order."""
        results = self.place / "results.jsonl"
        if not results.exists():
            return []
        return [json.loads(line) for line in results.read_text().splitlines()]

    def ran(self) -> list[str]:
        """The sessions that the task itself says it ran for, in order."""
        return [line["session"] for line in self.results()]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of `triggerstream`, here."""
        return subprocess.run(
            [TRIGGERSTREAM, *arguments],
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=_environment({}),
        )

    def fire(self, session: str, trigger: str, *pairs: str) -> None:
        """Fire with the command line, and see that it says yes."""
        ran = self.run("fire", session, trigger, *pairs)
        assert ran.returncode == 0, ran.stderr

    def fire_both(self, session: str) -> None:
        """Fire both triggers that the survey's task waits for."""
        self.fire(session, "module4Received", "steps=[1, 2]")
        self.fire(session, "module1Received", "participant=Ada")


class Dev:
    """One run of `dev --json`."""

    def __init__(self, project: Project, *arguments: str, env: Mapping[str, str]) -> None:
        self.project = project
        self._out = project.place / f"dev-{os.urandom(4).hex()}.out"
        self._err = self._out.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [TRIGGERSTREAM, "dev", *arguments, "--port", "0", "--json"],
                cwd=project.place,
                stdout=out,
                stderr=err,
                env=_environment(env),
                start_new_session=True,
            )

    def lines_of(self, event: str) -> list[dict[str, Any]]:
        """The lines of that kind so far."""
        text = self._out.read_text(errors="replace")
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line["event"] == event]

    def errors(self) -> str:
        """The output on standard error."""
        return self._err.read_text(errors="replace")

    def wait_for_lines(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """The first ``count`` lines of that kind."""

        def found() -> list[dict[str, Any]] | None:
            lines = self.lines_of(event)
            if len(lines) >= count:
                return lines[:count]
            assert self.process.poll() is None, f"ended: {self.errors()}"
            return None

        return wait_until(
            found, within_s=60, what=lambda: f"{event}: {self._out.read_text()} {self.errors()}"
        )

    @property
    def url(self) -> str:
        """The URL of its intake."""
        return str(self.wait_for_lines("ready")[0]["url"])

    def below(self) -> list[int]:
        """The processes below it, at any depth."""
        return descendants(self.process.pid)

    def kill(self) -> None:
        """`kill -9`, of it alone."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def dev(project: Project, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Dev]:
    """`dev` of the survey's app, and none of its processes left afterwards."""
    arguments = arguments or (str(project.tasks), "--celery", "my_app.tasks:app")
    running = Dev(project, *arguments, env=env or {})
    try:
        yield running
    finally:
        below = running.below()
        running.kill()
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    """The processes below ``root``, at any depth."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found = list(parents.get(root, ()))
    for pid in found:
        found.extend(parents.get(pid, ()))
    return found


def is_celery(command: str) -> bool:
    """True for a command line of the Celery worker of `dev`, or of one of its processes.

    With the package `setproctitle`, Celery gives its processes titles instead.
    """
    return "watchdog.py" not in command and (
        "triggerstream.cli.dev.celery_app" in command or command.startswith("[celeryd: triggerstream-dev@")
    )


def alive(pids: list[int]) -> list[int]:
    """Those of ``pids`` that run."""
    left = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                left.append(pid)
    return left


def wait_gone(pids: list[int]) -> None:
    """Wait until none of ``pids`` runs any more."""

    def gone() -> bool:
        return not alive(pids)

    def what() -> str:
        return ", ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in alive(pids))

    wait_until(gone, within_s=20, what=what)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRIGGER", "CELERY"))}
    return {**clean, **env}
