"""`triggerstream sessions`: show, explain and end sessions."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NoReturn

import click
from msgspec import structs

from triggerstream.cli.commands.endings import close, erase, export
from triggerstream.cli.condition_trees import add_conditions
from triggerstream.cli.opening import run, viewing
from triggerstream.cli.options import at_and_moment_option, at_option, json_option
from triggerstream.cli.parameters import Duration
from triggerstream.cli.printing import (
    brief,
    console,
    hanging,
    json_line,
    print_line,
    status_text,
    table,
    text,
)
from triggerstream.core import advice
from triggerstream.core.answers import (
    ExplainedSession,
    StoredInstance,
    StoredSession,
    TimedSession,
)
from triggerstream.core.ids import Instant
from triggerstream.core.state import Status
from triggerstream.present import time_words, words
from triggerstream.wire.answers import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.tree import Tree

    from triggerstream.engine.queries.past import Moment
    from triggerstream.engine.queries.view import View

STATUSES = [status.value for status in Status]


@click.group(invoke_without_command=False)
def sessions() -> None:
    """List and explain sessions; close, erase and export them."""


for _command in (close, erase, export):
    sessions.add_command(_command)


@sessions.command("list")
@click.option("--prefix", default="", help="Only sessions whose id begins with this.")
@click.option("--task", help="Only sessions with an instance of this task.")
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    help="Only sessions with an instance in this status.",
)
@click.option(
    "--stuck",
    type=Duration(),
    metavar="DURATION",
    help="Only sessions with a command that was decided longer ago than this and has no outcome yet.",
)
@click.option(
    "--due",
    type=Duration(),
    metavar="DURATION",
    help="Only sessions whose next timer is due within this, or overdue; the first one first.",
)
@click.option("--overdue", is_flag=True, help="Only sessions whose next timer is overdue; the oldest first.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=0), help="0 for no limit.")
@at_option
@json_option
def list_sessions(
    *,
    prefix: str,
    task: str | None,
    status: str | None,
    stuck: int | None,
    due: int | None,
    overdue: bool,
    limit: int,
    at: str,
    as_json: bool,
) -> None:
    """List sessions by id: how many instances wait, are decided (scheduled or running), failed, are done.

    With `--due` or `--overdue` they are sorted by the time at which their next timer is due.
    """
    from triggerstream.core.ids import TaskName
    from triggerstream.core.listing import InstanceFilter, count, in_status, stuck_since
    from triggerstream.core.projections import SILENT_US

    of_task = None if task is None else TaskName(task)
    with_status = None if status is None else Status(status)
    if stuck is None:
        wanted = InstanceFilter(task=of_task, statuses=in_status(with_status))
    else:
        wanted = stuck_since(time.time_ns() // 1000 - stuck, task=of_task, status=with_status)

    silent = stuck_since(time.time_ns() // 1000 - SILENT_US, task=of_task, status=Status.SCHEDULED)
    due_by_us = _now_us() + (0 if overdue else due or 0) if overdue or due is not None else None
    found: list[TimedSession] = []
    unheard = False

    async def work() -> tuple[bool, str]:
        from triggerstream.engine.queries.unfolded import count_unfolded, describe_unfolded

        nonlocal unheard
        async with viewing(at) as view:
            async for session, state, due_us in view.states(prefix=prefix):
                if not wanted.has_one(state):
                    continue
                if due_by_us is not None and (due_us is None or due_us > due_by_us):
                    continue
                if due_by_us is None and limit and len(found) == limit:
                    return True, ""
                unheard = unheard or (stuck is not None and silent.has_one(state))
                found.append(
                    TimedSession(
                        **structs.asdict(count(session, state)),
                        due_us=None if due_us is None else Instant(due_us),
                    )
                )
                if as_json and due_by_us is None:
                    json_line(to_json(found[-1]))
            return False, "" if found else describe_unfolded(await count_unfolded(view.reader))

    more, waiting = run(work())
    if due_by_us is not None:
        found.sort(key=lambda one: (one.due_us or 0, one.session))
        more = bool(limit) and len(found) > limit
        found = found[: limit or None]
        if as_json:
            for one in found:
                json_line(to_json(one))
    if waiting:
        print_line(f"the list is not complete: {waiting}", err=True)
    if not as_json:
        _show_counted(found, all_=not (prefix or task or status or stuck or due_by_us))
    if unheard:
        print_line(advice.look_for_silent_workers(), err=True)
    if more:
        print_line(f"there are more: --limit 0 lists all, --limit {2 * limit} twice as many", err=True)


def _show_counted(rows: Sequence[TimedSession], *, all_: bool) -> None:
    if not rows:
        print_line("no sessions" if all_ else "no session matches")
        return
    table(
        ["session", "waiting", "decided", "failed", "done", "last event", "next timer"],
        [
            [
                row.session,
                *map(str, (row.waiting, row.running, row.failed, row.done)),
                time_words.last_event(row.last_event_us, row.clock_us, now_us=_now_us()),
                "" if row.due_us is None else time_words.due_short(row.due_us, now_us=_now_us()),
            ]
            for row in rows
        ],
    )


@sessions.command()
@click.argument("session")
@at_option
@json_option
def show(*, session: str, at: str, as_json: bool) -> None:
    """Show SESSION's instances: status, the data that arrived for them, result."""
    from triggerstream.core.ids import SessionId
    from triggerstream.core.projections import stored

    async def work() -> tuple[StoredSession | None, str]:
        async with viewing(at) as view:
            named = SessionId(session)
            state = await view.state(session)
            if state is None:
                return None, await _waiting(view, session)
            rules = await view.rules(partition=await view.reader.partition(named))
            return stored(named, state, rules=rules), ""

    found, waiting = run(work())
    if found is None:
        _unknown(session, waiting)
    if as_json:
        json_line(to_json(found))
        return
    closed = "closed, " if found.closed else ""
    last = time_words.last_event(found.last_event_us, found.clock_us, now_us=_now_us())
    clock = time_words.clock(found.last_event_us, found.clock_us)
    print_line(f"{session}: {closed}last event: {last}{f'; {clock}' if clock else ''}")
    _show_ahead(found.clock_us)
    if not found.instances:
        print_line(f"no instance: {_no_instance(found)}")
        return
    now_us = _now_us()
    table(
        ["instance", "status", "since", "arrived data", "result, reason or due time"],
        [
            [
                name,
                status_text(instance.status, words.status_word(instance)),
                time_words.seconds(instance.changed_us),
                brief(instance.kwargs),
                _end(instance, now_us),
            ]
            for name, instance in found.instances.items()
        ],
    )


@sessions.command()
@click.argument("session")
@click.option("--task", help="Only this task, even if it has no instance yet.")
@at_and_moment_option
@json_option
def explain(*, session: str, task: str | None, at: str, moment: Moment | None, as_json: bool) -> None:
    """Explain SESSION: each condition trigger by trigger, and the events and decisions in their order.

    With a second `--at`, as it was after an event or at an instant: `--at 41`, `--at 2026-03-01T12:00:00Z`.
    That folds the session's part of the log again, which must reach back to its beginning.
    """
    from triggerstream.engine.queries.past import format_moment

    async def work() -> tuple[ExplainedSession | None, str]:
        async with viewing(at) as view:
            found = await view.explain(session, task=task, at=moment)
            if moment is not None:
                return found, format_moment(moment)
            return found, "" if found is not None else await _waiting(view, session)

    found, waiting = run(work())
    if found is None and moment is not None:
        print_line(f"{session}: no trigger had been fired for it at {waiting}", err=True)
        sys.exit(1)
    if found is None:
        _unknown(session, waiting)
    if as_json:
        json_line(to_json(found))
        return
    if moment is None:
        _show_ahead(found.clock_us)
    now_us = _now_us() if found.folded_to is None else None  # nothing is due in the past
    for part in (tree(found, now_us=now_us), *timeline(found)):
        console().print(part)


def tree(found: ExplainedSession, *, now_us: int | None) -> Tree:
    """An explained session as a tree: tasks, instances, leaves. ``now_us``: the time now, if it matters."""
    from rich.text import Text
    from rich.tree import Tree

    closed = " (closed)" if found.closed else ""
    then = "" if found.folded_to is None else f", after {words.event_number(found.folded_to)}"
    root = Tree(text(f"session {found.session}{closed}{then}", "bold"), guide_style="dim")
    if failed := words.headline(found):
        root.add(text(f"failed: {', '.join(failed)}", "bold red"))
    for task in found.tasks:
        label = text(task.task, "bold")
        if task.run is not None:
            label.append_text(text(f"  runs {task.run}", "dim"))
        branch = root.add(label)
        if task.says is not None:
            branch.add(text(task.says, "dim"))
        for instance in task.instances:
            line = Text.assemble(
                text(instance.instance, "bold"),
                " ",
                status_text(instance.status, words.status_word(instance)),
            )
            if aside := words.aside(instance, now_us=now_us):
                line.append_text(text(f"  {aside}"))
            node = branch.add(line)
            if instance.clone_of is not None:
                node.add(text(f"{words.rerun_kind(instance).lower()} of {words.rerun_of(instance)}", "dim"))
            if in_round := words.round_words(instance, task, now_us=now_us):
                node.add(text(in_round, "dim"))
            if instance.advice is not None:
                node.add(text(instance.advice, "yellow"))
            add_conditions(node, instance)
            if (error := words.other_error(instance, task)) is not None:
                node.add(text(f"failed: {error}" if words.is_failure(instance) else error, "red"))
            if instance.result is not None:
                node.add(text(f"returned {brief(instance.result)}"))
    if not found.tasks:
        root.add(text(_no_instance(found), "dim"))
    for seen in found.seen:
        if seen.unused:
            root.add(text(f"? {seen.trigger}  {words.by(seen.by)}: {words.unused(seen)}", "yellow"))
    return root


def _no_instance(found: ExplainedSession | StoredSession) -> str:
    return words.no_instance(arrived=bool(found.seen), clock=found.clock_us, generation=found.generation)


def timeline(found: ExplainedSession) -> list[object]:
    """An explained session's timeline, as lines to print."""
    from rich.text import Text

    lines: list[object] = [text("timeline", "bold")]
    for row in found.timeline:
        place = Text.assemble(
            text(time_words.milliseconds(row.time_us), "dim"),
            text(f"  {'timer' if row.offset is None else row.offset:>5}  ", "dim"),
            text(f"{row.what:<9} ", "red" if words.looks_failed(row) else _WHAT_STYLES.get(row.what, "")),
        )
        lines.append(hanging(place, text(words.event(row))))
    return lines


_WHAT_STYLES = {
    "decided": "bold cyan",
    "fired": "cyan",
    "expired": "magenta",
    "ignored": "dim",
    "reported": "green",
}


def _show_ahead(clock_us: Instant | None) -> None:
    if (says := time_words.ahead(clock_us, now_us=_now_us())) is not None:
        print_line(says)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _end(instance: StoredInstance, now_us: int) -> str:
    if instance.due_us is not None:
        return time_words.due(instance.due_us, instance.due_of, now_us=now_us)
    if instance.error is not None:
        again = None if instance.retried_as is None else f"tried again as {instance.retried_as}"
        because = again or instance.note or instance.reason
        return f"{instance.error}; {because}" if because else instance.error
    if instance.status is Status.FINISHED:
        return brief(instance.result)
    return instance.note or instance.reason or ""


async def _waiting(view: View, session: str) -> str:
    """Text about records not yet folded in the partition of ``session``."""
    from triggerstream.core.ids import SessionId
    from triggerstream.engine.queries.unfolded import count_unfolded, describe_unfolded

    place = await view.reader.partition(SessionId(session))
    return describe_unfolded(await count_unfolded(view.reader, [place]))


def _unknown(session: str, waiting: str) -> NoReturn:
    from triggerstream.engine.operations.orders import UNKNOWN_SESSION

    says = f"{UNKNOWN_SESSION} yet: {waiting}" if waiting else UNKNOWN_SESSION
    print_line(f"{session}: {says}", err=True)
    sys.exit(1)
