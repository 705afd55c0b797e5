"""`triggerstream fire`: append one trigger."""

from __future__ import annotations

from collections.abc import Sequence

import click

from triggerstream.cli.opening import existing, run
from triggerstream.cli.options import json_option, to_option
from triggerstream.cli.parameters import NotJsonError, json_value
from triggerstream.cli.printing import json_line, print_line
from triggerstream.cli.streams import OUTPUT, discard_errors, discard_output
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.wire.instants import parse_instant

_LOOK_S = 2.0
"""Time to find out whether a task uses the trigger: the event is durable already."""


@click.command()
@click.argument("session")
@click.argument("trigger")
@click.argument("pairs", metavar="[KEY=VALUE]…", nargs=-1)
@click.option(
    "--data", metavar="JSON", help="The trigger's data, an object; KEY=VALUE pairs are added to it."
)
@click.option("--id", "event_id", metavar="ID", help="The event's id: firing it again changes nothing.")
@click.option("--time", metavar="TIME", help="When it happened, such as 2026-03-01T12:00:00Z; else now.")
@click.option("--source", metavar="SOURCE", help="What fired it; id and source together name an event.")
@to_option
@click.option(
    "--timeout",
    "timeout_s",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to try.",
)
@json_option
def fire(
    *,
    session: str,
    trigger: str,
    pairs: tuple[str, ...],
    data: str | None,
    event_id: str | None,
    time: str | None,
    source: str | None,
    at: str,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Fire TRIGGER for SESSION. It is durable when this returns.

    Prints a warning on standard error if no task in force uses TRIGGER, as far as can be found out.

    A VALUE that is valid JSON is JSON (score=3, ok=true, tags='["a"]'), else a string (name=Ada). A
    string that looks like JSON is quoted: zip='"04109"'.
    """
    from triggerstream import bootstrap
    from triggerstream.client import Client
    from triggerstream.engine.queries.unused import unused_trigger

    if time is not None:
        _check_time(time)
    fields = _data(data) | _pairs(pairs)

    async def work() -> tuple[str, str | None]:
        address = existing(at)
        async with Client(str(address), source=source, timeout_s=timeout_s) as client:
            fired = await client.fire(session, trigger, fields, id=event_id, time=time)
        return fired, await unused_trigger(trigger, bootstrap.tasks_in_force(address), within_s=_LOOK_S)

    done, doubt = run(work())
    if doubt is not None:
        _warn(doubt)
    line = f"fired {trigger} for {session} (id {done})"
    try:
        if as_json:
            json_line({"session": session, "type": trigger, "id": done})
        else:
            print_line(line)
    except BrokenPipeError:
        raise
    except OSError as exc:
        # A script that knows only that the command failed would fire the trigger again, with another id.
        discard_output()
        raise click.ClickException(f"{line}, but {OUTPUT}: {exc.strerror}") from exc


def _warn(doubt: str) -> None:
    try:
        print_line(doubt, err=True)
    except OSError:
        discard_errors()  # nobody can read it, and the trigger is fired all the same


def _data(text: str | None) -> JsonObject:
    if text is None:
        return {}
    value = json_value(text, "--data")
    if value is None:
        return {}  # as everywhere: a trigger without data brings an empty object
    if not isinstance(value, dict):
        raise click.BadParameter('must be a JSON object, such as {"score": 3}', param_hint="--data")
    return value


def _check_time(text: str) -> None:
    try:
        parse_instant(text, path="--time")
    except DecodeError as exc:
        raise UsageError(str(exc)) from exc


def _pairs(texts: Sequence[str]) -> JsonObject:
    fields: JsonObject = {}
    for text in texts:
        key, value = _pair(text)
        if key in fields:
            raise click.BadParameter(f"{key!r} is given twice: give it once", param_hint="KEY=VALUE")
        fields[key] = value
    return fields


def _pair(text: str) -> tuple[str, Json]:
    key, mark, value = text.partition("=")
    if not mark or not key:
        raise click.BadParameter(f"{text!r}: write KEY=VALUE, such as score=3", param_hint="KEY=VALUE")
    try:
        return key, json_value(value, key)
    except NotJsonError:
        return key, value
