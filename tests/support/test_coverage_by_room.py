"""The table of ``make coverage``."""

from __future__ import annotations

from tests.support.coverage_by_room import Row, rows_of


def summary(statements: int, lines: int, branches: int, taken: int) -> dict[str, dict[str, int]]:
    names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
    return {"summary": dict(zip(names, (statements, lines, branches, taken), strict=True))}


def test_modules_of_a_room_are_added_and_those_beside_rooms_are_a_row() -> None:
    rows = rows_of(
        {
            "triggerstream/wire/tasksfile/keys.py": summary(6, 3, 2, 1),
            "triggerstream/core/ids.py": summary(10, 10, 0, 0),
            "triggerstream/core/fold.py": summary(20, 10, 10, 5),
            "triggerstream/client.py": summary(0, 0, 0, 0),
        }
    )
    assert rows == [
        Row(".", 0, 0, 0, 0),
        Row("core", 30, 20, 10, 5),
        Row("wire/tasksfile", 6, 3, 2, 1),
    ]
    assert [row.percent for row in rows] == [100.0, 62.5, 50.0]
