"""The package of an earlier commit runs beside this one, with the same libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks import baseline
from tests.benchmarks.machine import ROOT
from tests.benchmarks.peers.arguments import Arguments
from tests.benchmarks.peers.contenders import Build, Contender, Kind

ASK = """
import json, msgspec, sys, triggerstream
print(json.dumps([triggerstream.__file__, msgspec.__file__, sys.version]))
"""


@pytest.fixture
def commit() -> str:
    """The one that is compared with."""
    try:
        return baseline.base()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("waits for a clone with the history of the repository")


@pytest.mark.slow
def test_an_earlier_commit_is_installed_with_the_libraries_of_this_one(commit: str, tmp_path: Path) -> None:
    build = baseline.build(commit, tmp_path / "built")
    answer = subprocess.run(
        [build.python, "-c", ASK],
        cwd=tmp_path,
        env={**os.environ, **build.variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    package, library, version = json.loads(answer)
    assert Path(package).is_relative_to(tmp_path / "built")
    assert library == msgspec.__file__
    assert version == sys.version


def test_a_commit_that_is_not_there_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        baseline.commit_of("no-such-commit")


def test_a_worker_of_another_build_starts_outside_this_repository(tmp_path: Path) -> None:
    told = Arguments(bootstrap="h:1", app="a", partitions=1, directory=tmp_path, commands_due=1)
    build = Build(commit="0ff2d74", python=Path("/there/bin/python"), variables={"PYTHONPATH": "/libraries"})
    (program,) = Contender(kind=Kind.WORKER, build=build).programs(told)
    assert program.words[0] == "/there/bin/python"
    assert program.variables == {"PYTHONPATH": "/libraries"}
    assert not program.folder.is_relative_to(ROOT)
    assert program.name == "triggerstream worker, of commit 0ff2d74"
