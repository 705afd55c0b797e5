"""One figure of a benchmark, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``value`` in ``unit``; ``ratio`` is value / the peer's, measured in the same run.

    ``cpu_s`` and ``wall_s`` are the CPU time of the measured processes and the time that passed, where both
    were measured.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    ratio: float | None = None
    cpu_s: float | None = None
    wall_s: float | None = None

    def fields(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """From what ``fields`` returned."""
        return cls(**fields)


def table(rows: Iterable[Row]) -> str:
    """The rows as aligned text."""
    lines = [("name", "value", "unit", "peer", "ratio")]
    lines += [
        (r.name, f"{r.value:,.1f}", r.unit, r.peer or "", "" if r.ratio is None else f"{r.ratio:.2f}")
        for r in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:<{widths[2]}}  "
        f"{line[3]:<{widths[3]}}  {line[4]:>{widths[4]}}".rstrip()
        for line in lines
    )


def write(part: str, rows: Sequence[Row], path: Path, *, common: dict[str, object]) -> None:
    """Write the rows for programs, each with ``part`` and ``common``. Those of other parts stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [row for row in read(path) if row.get("part") != part]
    made = [{"part": part, **row.fields(), **common} for row in rows]
    path.write_text(json.dumps([*kept, *made], indent=1) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none if there is no such file, or if it is not one of these."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
