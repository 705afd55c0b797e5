"""`triggerstream deadletters`: what could not be processed, and why."""

from __future__ import annotations

import sys

import click
import orjson

from triggerstream.cli.options import at_option, json_option, reading, run
from triggerstream.cli.printing import json_line, say, table, text, when
from triggerstream.core.ids import Json, JsonObject
from triggerstream.engine.ports import DeadLetterRow
from triggerstream.wire.instants import format_instant


@click.group()
def deadletters() -> None:
    """Look at what could not be processed, and why."""


@deadletters.command("list")
@click.option("--after", default=0, metavar="NUMBER", help="Only those with a greater number.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1))
@at_option
@json_option
def list_letters(*, after: int, limit: int, at: str, as_json: bool) -> None:
    """List dead letters, oldest first."""

    async def work() -> list[DeadLetterRow]:
        async with reading(at) as reader:
            return list(await reader.dead_letters(after=after, limit=limit + 1))

    letters = run(work())
    if as_json:
        for letter in letters[:limit]:
            json_line(_fields(letter))
    elif not letters:
        say("no dead letters")
    else:
        table(
            ["number", "when", "offset", "session", "reason"],
            [
                [
                    str(letter.number),
                    when(letter.at_us),
                    _place(letter),
                    text(_decoded(letter.key) or ""),
                    letter.reason,
                ]
                for letter in letters[:limit]
            ],
        )
    if len(letters) > limit:
        click.echo(f"there are more: --after {letters[limit - 1].number} goes on", err=True)


@deadletters.command()
@click.argument("number", type=click.IntRange(min=1))
@at_option
@json_option
def show(*, number: int, at: str, as_json: bool) -> None:
    """Show the dead letter NUMBER whole."""

    async def work() -> DeadLetterRow | None:
        async with reading(at) as reader:
            found = await reader.dead_letters(after=number - 1, limit=1)
            return found[0] if found and found[0].number == number else None

    letter = run(work())
    if letter is None:
        click.echo(f"there is no dead letter {number}: `triggerstream deadletters list` shows them", err=True)
        sys.exit(1)
    if as_json:
        json_line(_fields(letter))
        return
    say(f"dead letter {letter.number}, {when(letter.at_us)}")
    say(f"reason   {letter.reason}")
    say(f"session  {_decoded(letter.key) or 'none'}")
    say(f"offset   {_place(letter) or 'a command, not handed over'}")
    for name, value in letter.headers:
        say(f"header   {name}: {_decoded(value)}")
    say("value")
    say(_decoded(letter.value) or "none")


def _place(letter: DeadLetterRow) -> str:
    """Where it was in the log; of partition 0, which may be all there is, the offset alone."""
    if letter.offset is None:
        return ""
    return f"{letter.partition}:{letter.offset}" if letter.partition else str(letter.offset)


def _fields(letter: DeadLetterRow) -> JsonObject:
    return {
        "number": letter.number,
        "at": format_instant(letter.at_us),
        "partition": letter.partition,
        "offset": letter.offset,
        "session": _decoded(letter.key),
        "reason": letter.reason,
        "value": _value(letter.value),
        "headers": {name: _decoded(value) for name, value in letter.headers},
    }


def _value(value: bytes | None) -> Json:
    """The value as JSON where it is JSON, else as text."""
    if value is None:
        return None
    try:
        loaded: Json = orjson.loads(value)
    except orjson.JSONDecodeError:
        return _decoded(value)
    return loaded


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
