"""One figure of a benchmark, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``value`` in ``unit``; ``ratio`` is value / the peer's, measured in the same run."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    ratio: float | None = None


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


def write(rows: Sequence[Row], path: Path) -> None:
    """The same rows for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
