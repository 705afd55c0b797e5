"""A benchmark that was interrupted continues with the runs that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.journal import Journal


def test_a_run_is_made_once_for_each_key(tmp_path: Path) -> None:
    path, made = tmp_path / "part.jsonl", list[int]()

    def run(number: int) -> dict[str, object]:
        made.append(number)
        return {"number": number}

    for _ in range(2):
        journal = Journal(path, {"commit": "a"})
        assert journal.result({"round": 0}, lambda: run(0)) == {"number": 0}
        assert journal.result({"round": 1}, lambda: run(1)) == {"number": 1}
    assert made == [0, 1]


def test_results_of_another_commit_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    Journal(path, {"commit": "a"}).result({"round": 0}, lambda: {"is": "old"})
    later = Journal(path, {"commit": "b"})
    assert not later.knows({"round": 0})
    assert later.result({"round": 0}, lambda: {"is": "new"}) == {"is": "new"}


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl"
    journal = Journal(path, {})
    journal.result({"round": 0}, lambda: {"is": 0})
    journal.result({"round": 1}, lambda: {"is": 1})
    path.write_text(path.read_text()[:-5])
    again = Journal(path, {})
    assert again.knows({"round": 0})
    assert not again.knows({"round": 1})
    again.result({"round": 1}, lambda: {"is": 1})
    assert Journal(path, {}).knows({"round": 1})


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "part.jsonl", {})

    def fail() -> dict[str, object]:
        raise AssertionError

    with pytest.raises(AssertionError):
        journal.result({"round": 0}, fail)
    assert not Journal(tmp_path / "part.jsonl", {}).knows({"round": 0})
