"""Figures that the benchmarks compute from their runs, and the files that keep them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as program
from tests.benchmarks import before, kafka, machine
from tests.benchmarks.journal import Journal
from tests.benchmarks.kafka import Comparison, measure, rows_of
from tests.benchmarks.kafka_memory import memory_rows
from tests.benchmarks.kafka_runs import Run
from tests.benchmarks.loads import Bursts
from tests.benchmarks.peers.contenders import PLAIN, WORKER
from tests.benchmarks.rows import Row, read, write
from triggerstream.core.errors import LogError

ROOT = Path(__file__).parents[2]
COMPARISON = Comparison(part="p", load=Bursts(sessions=250), contenders=(WORKER, PLAIN), rounds=3)


def a_run(cpu_s: float, *, wall_s: float = 1.0, wrong: str = "") -> Run:
    return Run(ready_s=2.0, wall_s=wall_s, cpu_s=cpu_s, start_cpu_s=1.0, wrong=wrong, load=0.5)


def rows_by_cpu(pairs: Sequence[tuple[float, float]]) -> list[Row]:
    rounds = [{WORKER.name: a_run(ours), PLAIN.name: a_run(theirs)} for ours, theirs in pairs]
    return rows_of(COMPARISON, rounds)


def test_a_ratio_is_the_median_of_the_rounds_and_not_of_the_contenders() -> None:
    rows = rows_by_cpu([(1.0, 2.0), (10.0, 5.0), (4.0, 6.0)])
    (found,) = [row for row in rows if row.peer == PLAIN.name and row.unit == "events/CPU s"]
    assert found.ratio == pytest.approx(1.5)
    assert found.value == pytest.approx(1_000 / 4.0)


def test_each_contender_has_its_cpu_its_time_and_its_start() -> None:
    rows = [row for row in rows_by_cpu([(0.5, 2.0)]) if row.name.startswith(f"p: {PLAIN.name}")]
    assert [(row.value, row.unit) for row in rows] == [(500, "events/CPU s"), (1_000, "events/s"), (2.0, "s")]
    assert (rows[0].cpu_s, rows[0].wall_s) == (2.0, 1.0)


def test_a_run_that_lost_commands_is_named_in_the_row() -> None:
    rows = rows_of(COMPARISON, [{WORKER.name: a_run(1.0, wrong="3 LOST"), PLAIN.name: a_run(1.0)}])
    assert rows[0].name == f"p: {WORKER.name} [3 LOST]"


def test_a_contender_that_always_failed_has_no_row() -> None:
    rows = rows_of(COMPARISON, [{WORKER.name: a_run(1.0)}])
    assert rows
    assert not [row for row in rows if PLAIN.name in (row.peer or row.name)]


def test_a_part_whose_runs_are_all_known_needs_no_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> Run:
        pytest.fail("a run was made")

    journal = Journal(None, {})
    for number in range(COMPARISON.rounds):
        for contender in COMPARISON.contenders:
            key = kafka.key_of(COMPARISON, contender, number)
            journal.result(key, lambda number=number: a_run(number + 1.0).fields())  # type: ignore[misc] # bound
    monkeypatch.setattr(kafka, "run_once", started)
    rounds = measure(COMPARISON, journal)
    assert [runs[WORKER.name].cpu_s for runs in rounds] == [1.0, 2.0, 3.0]


def test_a_run_that_fails_is_left_out_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Run:
        raise LogError("no answer")

    @contextmanager
    def none(_: Path) -> Iterator[str]:
        yield "127.0.0.1:1"

    monkeypatch.setattr(kafka, "cluster", none)
    monkeypatch.setattr(kafka, "_warm_up", lambda *_: None)
    monkeypatch.setattr(kafka, "run_once", fail)
    journal = Journal(None, {})
    assert measure(COMPARISON, journal) == [{}, {}, {}]
    assert not journal.knows(kafka.key_of(COMPARISON, WORKER, 0))


def test_memory_that_grows_has_a_row_of_its_growth() -> None:
    samples = [(0.0, 80.0), (900.0, 100.0), (1_800.0, 130.0), (3_600.0, 115.0)]
    rows = {row.name: row for row in memory_rows("m", samples, cpu_s=9.0)}
    assert rows["m, growth from after 900 s on"].value == pytest.approx(20.0)
    assert rows["m, at most"].value == 130.0
    assert rows["m, after 3600 s"].ratio == pytest.approx(1.15)


def test_the_verdict_names_what_costs_more_than_before() -> None:
    cheaper = Row(name="fold", value=9, unit="µs/event", peer="then", ratio=0.9)
    noise = Row(name="worker", value=9, unit="events/CPU s", peer="then", ratio=0.99)
    dearer = Row(name="scattered", value=9, unit="events/CPU s", peer="then", ratio=0.8)
    slower = Row(name="worker", value=9, unit="events/s", peer="then", ratio=0.5)
    assert before.verdict([cheaper, noise, slower], "0ff2d74") == (
        "nothing of the plain path costs more than at commit 0ff2d74"
    )
    assert before.verdict([cheaper, dearer], "0ff2d74") == (
        "COSTS MORE than at commit 0ff2d74: scattered: 1.25 x"
    )


def test_rows_of_a_part_replace_its_own_and_leave_the_others(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    one, two = (Row(name=name, value=1.0, unit="s", cpu_s=2.0) for name in ("one", "two"))
    write("a", [one], path, common=machine.fields())
    write("b", [one], path, common=machine.fields())
    write("a", [two], path, common=machine.fields())
    found = read(path)
    assert [(row["part"], row["name"]) for row in found] == [("b", "one"), ("a", "two")]
    assert found[0]["cpu_s"] == 2.0
    assert found[0]["interpreter"]["build"] in {"with PGO", "without PGO"}
    assert Row.of(one.fields()) == one


def test_a_file_that_is_not_one_of_rows_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text("[1, ")
    write("a", [Row(name="one", value=1.0, unit="s")], path, common={})
    assert [row["name"] for row in json.loads(path.read_text())] == ["one"]


def test_a_part_is_measured_once_on_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = list[int]()

    def run() -> list[Row]:
        made.append(1)
        return [Row(name="one", value=len(made), unit="s")]

    monkeypatch.chdir(tmp_path)
    part = program.Part(about="", minutes=1, run=program.once(run))
    monkeypatch.setitem(program.PARTS, "small", part)
    for words in (["small"], ["small"], ["small", "--fresh"]):
        assert program.main(words) == 0
    assert len(made) == 2
    (row,) = read(tmp_path / program.ROWS)
    assert (row["part"], row["value"]) == ("small", 2)
    printed = capsys.readouterr().out
    assert machine.interpreter().describe() in printed
    assert "small, part 1 of 1" in printed


def test_the_help_lists_every_part_with_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for name, part in program.PARTS.items():
        target = "make bench-long" if part.is_long else "make bench"
        (said,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert f"({target}, {part.minutes:g} min)" in said


def test_the_makefile_passes_its_variables_on() -> None:
    words = ["PART=kafka", "ROUNDS=3", "EVENTS=800", "BASE=0ff2d74", "FRESH=1", "MINUTES=1", "SESSIONS=9"]
    dry = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "bench", *words],
        cwd=ROOT,
        env={**os.environ, "MAKELEVEL": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    given = dry.stdout.splitlines()[-1].split("tests.benchmarks ")[1].split()
    assert " ".join(given) == (
        "kafka --rounds 3 --events 800 --base 0ff2d74 --sessions 9 --minutes 1 --fresh"
    )
