"""The table of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.acceptance.chain.oracle import Count

_HEAD = ("scenario", "events", "faults", "lost", "invented", "doubled", "ended with", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of one scenario. ``ends`` are the exit statuses of processes that were started again."""

    scenario: str
    events: int
    faults: int
    commands: Count
    seconds: float
    effects: Count | None = None
    ends: Counter[int] = field(default_factory=Counter)

    def named(self, scenario: str) -> Row:
        """The same under another name."""
        return replace(self, scenario=scenario)

    def cells(self) -> tuple[str, ...]:
        """As it is printed: counts of effects, then of commands."""
        counts = [count for count in (self.effects, self.commands) if count is not None]
        ended = ", ".join(f"{times} × {status}" for status, times in sorted(self.ends.items()))
        return (
            self.scenario.replace("_", " "),
            f"{self.events:,}",
            str(self.faults),
            "/".join(str(count.lost) for count in counts),
            "/".join(str(count.invented) for count in counts),
            "/".join(str(count.doubled) for count in counts),
            ended or "-",
            f"{self.seconds:.0f}",
        )


def table(rows: Sequence[Row]) -> list[str]:
    """The lines of the table; where a cell has two figures, of effects and of commands."""
    cells = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
