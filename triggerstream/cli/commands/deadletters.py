"""`triggerstream deadletters`: list, show and redrive records that could not be processed."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click
import orjson

from triggerstream.cli.opening import appending, existing, reading, run
from triggerstream.cli.options import at_option, json_option
from triggerstream.cli.orders import describe_unfolded_record, wait_option
from triggerstream.cli.printing import compact, json_line, print_line, table, text
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.engine.ports import Reader
from triggerstream.engine.rows import DeadLetterRow
from triggerstream.present import time_words
from triggerstream.wire.instants import format_instant

if TYPE_CHECKING:
    from triggerstream.engine.operations.redrive import Redriven

_PAGE = 500


@click.group()
def deadletters() -> None:
    """List, show and redrive records that could not be processed."""


@deadletters.command("list")
@click.option("--after", default=0, metavar="NUMBER", help="Only those with a greater number.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1))
@at_option
@json_option
def list_letters(*, after: int, limit: int, at: str, as_json: bool) -> None:
    """List dead letters, oldest first."""

    async def work() -> tuple[list[DeadLetterRow], str]:
        from triggerstream.engine.queries.unfolded import count_unfolded, describe_unfolded

        async with reading(at) as reader:
            found = list(await reader.dead_letters(after=after, limit=limit + 1))
            return found, "" if found else describe_unfolded(await count_unfolded(reader))

    letters, waiting = run(work())
    if waiting:
        print_line(f"the list is not complete: {waiting}", err=True)
    if as_json:
        for letter in letters[:limit]:
            json_line(_fields(letter))
    elif not letters:
        print_line("no dead letters")
    else:
        table(
            ["number", "when", "offset", "session", "reason"],
            [
                [
                    str(letter.number),
                    time_words.seconds(letter.at_us),
                    _place(letter),
                    text(_decoded(letter.key) or ""),
                    letter.reason,
                ]
                for letter in letters[:limit]
            ],
        )
    if len(letters) > limit:
        print_line(f"there are more: continue with --after {letters[limit - 1].number}", err=True)


@deadletters.command()
@click.argument("number", type=click.IntRange(min=1))
@at_option
@json_option
def show(*, number: int, at: str, as_json: bool) -> None:
    """Show the dead letter NUMBER with its whole content."""

    async def work() -> DeadLetterRow | None:
        async with reading(at) as reader:
            found = await reader.dead_letters(after=number - 1, limit=1)
            return found[0] if found and found[0].number == number else None

    letter = run(work())
    if letter is None:
        print_line(f"there is no dead letter {number}: {advice.list_letters()}", err=True)
        sys.exit(1)
    if as_json:
        json_line(_fields(letter))
        return
    print_line(f"dead letter {letter.number}, {time_words.seconds(letter.at_us)}")
    print_line(f"reason   {letter.reason}")
    print_line(f"session  {_decoded(letter.key) or 'none'}")
    print_line(f"offset   {_place(letter) or 'a command, not handed over'}")
    for name, value in letter.headers:
        print_line(f"header   {name}: {_decoded(value)}")
    if letter.last is not None:
        return
    print_line("value")
    print_line(_decoded(letter.value) or "none")


@deadletters.command()
@click.argument("numbers", metavar="[NUMBER]…", nargs=-1, type=click.IntRange(min=1))
@click.option("--all", "every", is_flag=True, help="Every dead letter.")
@click.option("--dry-run", is_flag=True, help="Only report which can be read now.")
@wait_option
@at_option
@json_option
def redrive(
    *, numbers: tuple[int, ...], every: bool, dry_run: bool, wait_s: float, at: str, as_json: bool
) -> None:
    """Append the records of dead letters to the log again, if a change has made them readable.

    Each keeps its origin's identity and time, so that it counts once. The exit status is 1 if one stays a
    dead letter, or becomes one again.
    """
    if bool(numbers) == every:
        raise click.UsageError("name the dead letters by NUMBER, or give --all")

    async def work() -> list[Redriven]:
        from triggerstream import bootstrap
        from triggerstream.engine.operations import redrive as engine

        address = existing(at)
        app, control = address.app, bootstrap.control_keys(address)
        answers: list[Redriven] = []
        ready: list[engine.Ready] = []
        async with reading(at) as reader:
            async for letter in _chosen(reader, numbers):
                found = await engine.prepare(reader, letter, app=app, control=control)
                if isinstance(found, engine.Ready):
                    ready.append(found)
                else:
                    answers.append(found)
            if dry_run:
                answers += [engine.Redriven(number=one.number, folded=None) for one in ready]
            elif ready:
                async with appending(at) as log:
                    answers += await engine.redrive(log, reader, ready, wait_s=wait_s)
        return sorted(answers, key=lambda answer: answer.number)

    answers = run(work())
    for answer in answers:
        if as_json:
            json_line(_answer_fields(answer))
        else:
            line = f"dead letter {answer.number}: {_sentence(answer)}"
            print_line(line, err=not (answer.folded or (dry_run and answer.folded is None)))
    if not answers and not as_json:
        print_line("no dead letters")
    if not all(answer.folded or (dry_run and answer.folded is None) for answer in answers):
        sys.exit(1)


async def _chosen(reader: Reader, numbers: tuple[int, ...]) -> AsyncIterator[DeadLetterRow]:
    """Dead letters with ``numbers``, or all."""
    if numbers:
        for number in sorted(set(numbers)):
            found = await reader.dead_letters(after=number - 1, limit=1)
            if not found or found[0].number != number:
                raise UsageError(f"there is no dead letter {number}: {advice.list_letters()}")
            yield found[0]
        return
    after = 0
    while page := await reader.dead_letters(after=after, limit=_PAGE):
        for letter in page:
            yield letter
        after = page[-1].number


def _answer_fields(answer: Redriven) -> JsonObject:
    fields: JsonObject = {"number": answer.number, "folded": answer.folded}
    more: JsonObject = {"partition": answer.partition, "offset": answer.offset, "reason": answer.reason}
    return {**fields, **compact(more)}


def _sentence(answer: Redriven) -> str:
    if answer.offset is None:
        return f"not redriven: {answer.reason}" if answer.reason else "can be read now; nothing was done"
    if answer.folded is None:
        return describe_unfolded_record("its record", answer.offset)
    if not answer.folded:
        return f"a dead letter again, from offset {answer.offset}: {answer.reason}"
    return f"processed, at offset {answer.offset}"


def _place(letter: DeadLetterRow) -> str:
    """The record's position in the log; in partition 0, which may be the only one, just the offset.

    For a trigger that was left out: the position of the record that it follows from, and a number.
    """
    if letter.offset is None:
        return ""
    place = f"{letter.partition}:{letter.offset}" if letter.partition else str(letter.offset)
    if letter.last is not None:
        return f"{place}-{letter.last}"
    return place if letter.left_out is None else f"{place}, left out {letter.left_out}"


def _fields(letter: DeadLetterRow) -> JsonObject:
    return {
        "number": letter.number,
        "at": format_instant(letter.at_us),
        "partition": letter.partition,
        "offset": letter.offset,
        **compact({"lastOffset": letter.last, "leftOut": letter.left_out}),
        "session": _decoded(letter.key),
        "reason": letter.reason,
        "value": _value(letter.value),
        "headers": {name: _decoded(value) for name, value in letter.headers},
    }


def _value(value: bytes | None) -> Json:
    """The value as JSON if it is JSON, else as text."""
    if value is None:
        return None
    try:
        loaded: Json = orjson.loads(value)
    except orjson.JSONDecodeError:
        return _decoded(value)
    return loaded


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
