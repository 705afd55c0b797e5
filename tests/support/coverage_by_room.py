"""Branch coverage of the fast tests, room by room: ``make coverage``.

A room is a folder of the package; modules beside the folders are the room ``.``. Only the tests of ``make
test-quick`` count: what needs a broker or a worker process is shown as not covered.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import click
import coverage

PACKAGE = "triggerstream"


@dataclass(frozen=True, slots=True)
class Row:
    """The coverage of a room."""

    room: str
    statements: int
    lines: int
    branches: int
    taken: int

    @property
    def percent(self) -> float:
        """Covered lines and branches together, as coverage.py counts them."""
        total = self.statements + self.branches
        return 100.0 * (self.lines + self.taken) / total if total else 100.0


def room_of(path: str) -> str:
    """The room of a module, as its path in the package."""
    return PurePosixPath(path).relative_to(PACKAGE).parent.as_posix()


def rows_of(files: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for each room of ``files``, as coverage.py's JSON report has them."""
    rooms: dict[str, list[Mapping[str, Any]]] = {}
    for path, found in files.items():
        rooms.setdefault(room_of(path), []).append(found["summary"])
    return [_row(room, found) for room, found in sorted(rooms.items())]


def _row(room: str, found: Iterable[Mapping[str, Any]]) -> Row:
    names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
    return Row(room, *(sum(one[name] for one in found) for name in names))


def _report() -> Mapping[str, Mapping[str, Any]]:
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(path))
        files: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["files"]
    return files


def main() -> None:
    """Print the table."""
    rows = rows_of(_report())
    names = ("statements", "lines", "branches", "taken")
    rows.append(Row("all", *(sum(getattr(row, name) for row in rows) for name in names)))
    click.echo(f"{'room':<24}{'covered':>9}{'statements':>12}{'branches':>10}{'not taken':>11}")
    for row in rows:
        missed = row.branches - row.taken
        click.echo(f"{row.room:<24}{row.percent:>8.1f}%{row.statements:>12}{row.branches:>10}{missed:>11}")


if __name__ == "__main__":
    main()
