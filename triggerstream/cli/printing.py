"""What commands print: tables and trees for people, JSON lines for programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from triggerstream.core.ids import Json, JsonObject
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import dumps

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_PIPED_WIDTH = 160
"""Columns where the output is no terminal: enough that a table keeps its ids whole."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

STATUS_STYLES = {
    "unstarted": "yellow",
    "delayed": "yellow",
    "held": "yellow",
    "scheduled": "cyan",
    "running": "cyan",
    "failed": "bold red",
    "finished": "green",
    "skipped": "green",
    "replayed": "dim",
    "abandoned": "dim",
    "expired": "magenta",
    "cancelled": "dim",
}


def json_line(value: Mapping[str, Json]) -> None:
    """One object on a line of its own."""
    sys.stdout.buffer.write(dumps(value) + b"\n")
    sys.stdout.buffer.flush()


def say(message: str) -> None:
    """One line for people."""
    click.echo(plain(message))


def console() -> Console:
    """Standard output, with colours on a terminal."""
    from rich.console import Console

    piped = not sys.stdout.isatty()
    return Console(width=_PIPED_WIDTH if piped else None, highlight=False, soft_wrap=False)


def plain(text: str) -> str:
    """``text`` without what could steer a terminal: names and data come from anywhere."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def text(value: str, style: str = "") -> Text:
    """``value`` as it is: never read as markup."""
    from rich.text import Text

    return Text(plain(value), style=style)


def status_text(status: str) -> Text:
    """A status in its colour."""
    return text(status, STATUS_STYLES.get(status, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """A table; long cells are folded, none is cut off."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(text(cell) if isinstance(cell, str) else cell for cell in row))
    console().print(made)


def when(instant_us: int | None) -> str:
    """An instant for people: seconds are enough."""
    if instant_us is None:
        return ""
    return format_instant(instant_us - instant_us % 1_000_000).replace("T", " ")


def brief(value: Json, limit: int = 100) -> str:
    """``value`` as JSON on one line, cut at ``limit`` characters."""
    line = dumps(value).decode()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def compact(fields: JsonObject) -> JsonObject:
    """``fields`` without those that are null."""
    return {name: value for name, value in fields.items() if value is not None}
