"""Output of commands: tables and trees for people, JSON lines for programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from triggerstream.cli.streams import missing_character
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.printable import escape
from triggerstream.wire.json import dumps

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from triggerstream.core.state import Status

_PIPED_WIDTH = 1_000_000
"""Width of the output if it is not a terminal: each row is one line. Otherwise the end of a long session id
would begin a new line, and could look like another row."""

_STYLES = {"waits": "yellow", "runs": "cyan", "failed": "bold red", "done": "green", "past": "dim"}
"""Colours by :class:`triggerstream.present.words.StatusKind`."""


_PASSWORD = re.compile(r"(://[^:/@]*):[^@/]*@")


def without_passwords(line: str) -> str:
    """``line`` without the passwords of URLs."""
    return _PASSWORD.sub(r"\1:…@", line)


def json_line(value: Mapping[str, Json]) -> None:
    """Print one object as one line of JSON; control characters in strings are escaped as JSON allows."""
    line = dumps(value)
    if not line.isascii() or b"\x7f" in line:
        line = escape(line.decode()).encode()
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Styled:
    """Part of a line, coloured on a terminal."""

    text: str
    colour: str | None = None
    bold: bool = False
    dim: bool = False


def print_line(*parts: str | Styled, err: bool = False) -> None:
    """Print one line for people, with control characters escaped; with ``err`` on standard error."""
    click.echo("".join(_shown(part) for part in parts), err=err)


def print_lines(document: str) -> None:
    """Print a document of several lines, such as a tasks file.

    Raises:
        UsageError: a file is to have it, in an encoding that lacks a character of it.
    """
    missing = None if sys.stdout.isatty() else missing_character(document)
    if missing is not None:
        raise UsageError(
            f"standard output: its encoding {sys.stdout.encoding} lacks {missing!r} (U+{ord(missing):04X}): "
            "set PYTHONIOENCODING=utf-8"
        )
    for line in document.replace("\r\n", "\n").removesuffix("\n").split("\n"):
        click.echo("\t".join(escape(piece) for piece in line.split("\t")))


def _shown(part: str | Styled) -> str:
    if isinstance(part, str):
        return escape(part)
    return click.style(escape(part.text), fg=part.colour, bold=part.bold or None, dim=part.dim or None)


def console() -> Console:
    """Standard output, with colours on a terminal."""
    from rich.console import Console

    piped = not sys.stdout.isatty()
    return Console(width=_PIPED_WIDTH if piped else None, highlight=False, soft_wrap=False)


def text(value: str, style: str = "") -> Text:
    """``value`` as it is: never read as markup."""
    from rich.text import Text

    return Text(escape(value), style=style)


def status_text(status: Status, word: str | None = None) -> Text:
    """A status, or ``word`` for it, in its colour; one to look at although it is past stands out."""
    from triggerstream.core.state import Status
    from triggerstream.present.words import status_kind

    return text(word or status.value, "magenta" if status is Status.EXPIRED else _STYLES[status_kind(status)])


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


def hanging(place: Text, body: Text) -> RenderableType:
    """``place`` and ``body`` on one line; text beyond the terminal's width continues below ``body``."""
    from rich.table import Table
    from rich.text import Text

    if not console().is_terminal:
        return Text.assemble(place, body)
    made = Table.grid()
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row(place, body)
    return made


def brief(value: Json, limit: int = 100) -> str:
    """``value`` as JSON on one line, cut at ``limit`` characters."""
    line = dumps(value).decode()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def count_of(number: int, noun: str) -> str:
    """A number of things: `1 event`, `2 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def compact(fields: JsonObject) -> JsonObject:
    """``fields`` without those that are null."""
    return {name: value for name, value in fields.items() if value is not None}
