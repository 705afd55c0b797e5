"""`triggerstream sessions close | erase | export`: end sessions, and print their events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from triggerstream.cli.opening import appending, existing, reading, run
from triggerstream.cli.options import at_option, json_option
from triggerstream.cli.orders import answer_fields, giver_options, not_known
from triggerstream.cli.printing import json_line, print_line
from triggerstream.core.events import Close, Erase
from triggerstream.core.ids import SessionId

if TYPE_CHECKING:
    from triggerstream.engine.operations.orders import Answer


@click.command()
@click.argument("sessions", metavar="SESSION…", nargs=-1, required=True)
@giver_options
@at_option
@json_option
def close(
    *, sessions: tuple[str, ...], reason: str | None, by: str, wait_s: float, at: str, as_json: bool
) -> None:
    """Close sessions: waiting instances are cancelled, and later triggers begin a new generation."""
    _end(lambda: Close(reason=reason, by=by), sessions, wait_s=wait_s, at=at, as_json=as_json)


@click.command()
@click.argument("sessions", metavar="SESSION…", nargs=-1, required=True)
@giver_options
@at_option
@json_option
def erase(
    *, sessions: tuple[str, ...], reason: str | None, by: str, wait_s: float, at: str, as_json: bool
) -> None:
    """Erase the state of sessions. Their events stay until the log's retention ends."""
    _end(lambda: Erase(reason=reason, by=by), sessions, wait_s=wait_s, at=at, as_json=as_json)


@click.command()
@click.argument("session")
@click.option(
    "--files",
    is_flag=True,
    help="Print the tasks files that were in force, too, each where it was applied.",
)
@at_option
def export(*, session: str, files: bool, at: str) -> None:
    """Print all events of SESSION that the log holds, as JSON lines that `simulate` reads.

    `sessions export ID --files | simulate - --state` gives the session's instances, under the tasks files
    that were in force; `sessions export ID | simulate FILE - --state` what FILE would have made of its
    events. The ids of commands are those of the engine: each line names the app. If a session was
    erased, its last erasure and later events are printed. Reads the whole partition of the session. Records
    that cannot be read as events are reported on standard error.
    """

    async def work() -> int:
        from triggerstream.engine.queries.history import Unread, history

        count = 0
        async with reading(at) as reader:
            async for line in history(reader, SessionId(session), app=existing(at).app, files=files):
                if isinstance(line, Unread):
                    print_line(f"offset {line.offset}: left out: {line.reason}", err=True)
                else:
                    json_line(line)
                    count += 1
        return count

    if not run(work()):
        from triggerstream.engine.operations.orders import UNKNOWN_SESSION

        print_line(f"{session}: {UNKNOWN_SESSION}", err=True)
        sys.exit(1)


def _end(
    order: Callable[[], Close | Erase], sessions: tuple[str, ...], *, wait_s: float, at: str, as_json: bool
) -> None:
    from triggerstream.engine.operations.orders import UNKNOWN_SESSION

    async def work() -> list[Answer]:
        from triggerstream.engine.operations.orders import AddressedOrder, address, give, target_in
        from triggerstream.engine.queries.unfolded import count_unfolded

        names = [SessionId(name) for name in dict.fromkeys(sessions)]
        orders: list[AddressedOrder] = []
        async with reading(at) as reader:
            rows = await reader.some(names)
            for session in names:
                row = rows.get(session)
                if row is None and not await count_unfolded(reader, [await reader.partition(session)]):
                    unknown.append(session)
                    continue
                target = target_in(None if row is None else row.known())
                orders.append(address(session, order(), target))
            if not orders:
                return []
            async with appending(at) as log:
                return await give(log, reader, orders, wait_s=wait_s)

    unknown: list[SessionId] = []
    answers = run(work())
    for answer in answers:
        if as_json:
            json_line(answer_fields(answer))
        else:
            print_line(f"{answer.to.session}: {_outcome(answer)}", err=answer.applied is not True)
    for session in unknown:
        print_line(f"{session}: {UNKNOWN_SESSION}", err=True)
    if unknown or not all(answer.applied for answer in answers):
        sys.exit(1)


def _outcome(answer: Answer) -> str:
    if answer.applied is None:
        return not_known(answer)
    if not answer.applied:
        return f"not done: {answer.reason}"
    return "closed" if isinstance(answer.to.order, Close) else "erased"
