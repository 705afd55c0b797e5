"""The choice of the Python for `make install`, among programs that answer as one."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import interpreter
from tests.support.interpreter import advice, ask, candidates, choose

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a program that answers as the Python it pretends to be; its folder is returned."""

    def write(name: str, *, folder: str, version: str = "3, 11, 2", pgo: bool, able: bool = True) -> Path:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        answer = f"[[{version}], {pgo}, {able}]".lower()
        (place / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (place / name).chmod(0o755)
        return place

    return write


def path_of(*folders: Path) -> str:
    return ":".join(map(str, folders))


def test_one_built_with_pgo_is_chosen_before_the_first_on_the_path(make: Make) -> None:
    first = make("python3", folder="a", version="3, 11, 7", pgo=False)
    second = make("python3", folder="b", pgo=True)
    found = candidates(path_of(first, second))
    chosen = choose(found)
    assert chosen is not None
    assert chosen.path == str(second / "python3")
    assert chosen.describe() == "Python 3.11.2, built with PGO"
    assert advice(chosen, found) == ""


def test_one_that_cannot_make_environments_is_named_but_not_chosen(make: Make) -> None:
    first = make("python3", folder="a", pgo=False)
    second = make("python3", folder="b", pgo=True, able=False)
    found = candidates(path_of(first, second))
    chosen = choose(found)
    assert chosen is not None
    assert chosen.path == str(first / "python3")
    assert f"such as {second / 'python3'}, which lacks venv" in advice(chosen, found)


def test_without_one_built_with_pgo_the_first_is_chosen_and_the_gain_is_said(make: Make) -> None:
    first = make("python3", folder="a", pgo=False)
    make("python3.12", folder="a", version="3, 12, 1", pgo=False)
    found = candidates(path_of(first))
    chosen = choose(found)
    assert chosen is not None
    assert chosen.version == (3, 11, 2)
    assert "none is on the PATH" in advice(chosen, found)


def test_the_default_python_comes_before_others_built_with_pgo(make: Make) -> None:
    folder = make("python3", folder="a", version="3, 12, 3", pgo=True)
    make("python3.11", folder="a", pgo=True)
    chosen = choose(candidates(path_of(folder)))
    assert chosen is not None
    assert chosen.version == (3, 12, 3)


def test_a_python_that_is_too_old_or_gives_no_answer_is_no_candidate(make: Make) -> None:
    folder = make("python3", folder="a", version="3, 10, 13", pgo=True)
    (folder / "python3.12").write_text(
        "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"
    )
    (folder / "python3.12").chmod(0o755)
    assert candidates(path_of(folder)) == []


def test_one_file_under_two_names_is_asked_once(make: Make) -> None:
    folder = make("python3.11", folder="a", pgo=True)
    (folder / "python3").symlink_to(folder / "python3.11")
    assert [one.path for one in candidates(path_of(folder))] == [str(folder / "python3")]


def test_this_python_says_of_itself_what_its_build_recorded() -> None:
    own = ask(sys.executable)
    assert own is not None
    assert own.version == sys.version_info[:3]
    recorded = sysconfig.get_config_var("CONFIG_ARGS") or ""
    assert own.has_pgo or "--enable-optimizations" not in recorded


def test_the_program_prints_a_path_alone_on_standard_output(make: Make) -> None:
    folder = make("python3", folder="a", pgo=False)
    ran = subprocess.run(
        [sys.executable, interpreter.__file__],
        env={"PATH": path_of(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == f"{folder / 'python3'}\n"
    assert "without PGO" in ran.stderr
