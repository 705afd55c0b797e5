from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.commands import Ran
from tests.support.engines import RunningEngine, running_engine
from triggerstream.cli import main

SURVEY = """{
  // a survey
  "t_process": {"after": ["module1", "module4"], "run": "app.process"},
  "t_mail": {"after": ["t_process"], "unless": ["unsubscribed"], "run": "app.mail"},
}"""


class Cli:
    """The command line, in this process, with a state directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, stdin: bytes = b"", at: str | None = None, bare: bool = False) -> Ran:
        """Run the command; ``bare``: with no address in the environment."""
        env = {"TRIGGERSTREAM_AT": None if bare else at or str(self.directory)}
        ran = CliRunner().invoke(main, list(arguments), input=stdin, env=env)
        if ran.exception is not None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert "Traceback" not in ran.output
        return Ran(ran.exit_code, ran.stdout, ran.stderr)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "state")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RunningEngine]:
    with running_engine(tmp_path / "state", SURVEY) as engine:
        yield engine
