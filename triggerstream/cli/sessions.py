"""`triggerstream sessions`: what is known of sessions, and why."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NoReturn, cast

import click

from triggerstream.cli.options import Duration, at_option, json_option, run, viewing
from triggerstream.cli.printing import (
    brief,
    compact,
    console,
    json_line,
    plain,
    say,
    status_text,
    table,
    text,
    when,
)
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.state import DECIDED, WAITING, Instance, SessionState, Status
from triggerstream.wire.instants import format_instant

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

STATUSES = [status.value for status in Status]


@click.group(invoke_without_command=False)
def sessions() -> None:
    """List and explain what is known of sessions."""


@sessions.command("list")
@click.option("--prefix", default="", help="Only sessions whose id begins so.")
@click.option("--task", help="Only sessions with an instance of this task.")
@click.option("--status", type=click.Choice(STATUSES), help="Only sessions with an instance in this status.")
@click.option(
    "--stuck",
    type=Duration(),
    metavar="DURATION",
    help="Only sessions with a command decided longer ago than this, and no outcome yet.",
)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=0), help="0 for no limit.")
@at_option
@json_option
def list_sessions(
    *,
    prefix: str,
    task: str | None,
    status: str | None,
    stuck: int | None,
    limit: int,
    at: str,
    as_json: bool,
) -> None:
    """List sessions by id, with how many instances wait, run, failed and are done."""
    before_us = None if stuck is None else time.time_ns() // 1000 - stuck

    async def work() -> tuple[list[JsonObject], bool]:
        found: list[JsonObject] = []
        async with viewing(at) as view:
            async for session, state, due_us in view.states(prefix=prefix):
                if not _matches(state, task=task, status=status, decided_before_us=before_us):
                    continue
                if limit and len(found) == limit:
                    return found, True
                found.append({"session": session, **_counts(state), "due": _instant(due_us)})
                if as_json:
                    json_line(found[-1])
                    found[-1] = {}
        return found, False

    rows, more = run(work())
    if as_json:
        pass
    elif not rows:
        say("no sessions" if not (prefix or task or status or stuck) else "no session matches")
    else:
        table(
            ["session", "waiting", "running", "failed", "done", "last event", "next timer"],
            [
                [
                    str(row["session"]),
                    *(str(row[name]) for name in ("waiting", "running", "failed", "done")),
                    _short(row["clock"]),
                    _short(row["due"]),
                ]
                for row in rows
            ],
        )
    if more:
        click.echo(f"there are more: --limit 0 lists all, --limit {2 * limit} twice as many", err=True)


@sessions.command()
@click.argument("session")
@at_option
@json_option
def show(*, session: str, at: str, as_json: bool) -> None:
    """Show SESSION's instances: status, arguments, result."""

    async def work() -> SessionState | None:
        async with viewing(at) as view:
            return await view.state(session)

    state = run(work())
    if state is None:
        _unknown(session)
    from triggerstream.core.projections import statuses

    instances = statuses(state)
    if as_json:
        json_line(
            {
                "session": session,
                "generation": state.generation,
                "closed": state.closed,
                "offset": state.offset,
                "clock": _instant(state.clock_us),
                "refused": state.refused,
                "seen": [*state.seen],
                "instances": {name: _fields(instance) for name, instance in instances.items()},
            }
        )
        return
    say(f"{session}: {'closed, ' if state.closed else ''}last event {when(state.clock_us)}")
    if not instances:
        say("no instance: no task uses what has arrived")
        return
    table(
        ["instance", "status", "since", "kwargs", "result or reason"],
        [
            [
                name,
                status_text(instance.status),
                when(instance.changed_us),
                brief(instance.stored_kwargs()),
                _end(instance),
            ]
            for name, instance in instances.items()
        ],
    )


@sessions.command()
@click.argument("session")
@click.option("--task", help="Only this task, even if it has no instance yet.")
@at_option
@json_option
def explain(*, session: str, task: str | None, at: str, as_json: bool) -> None:
    """Explain SESSION: each condition leaf by leaf, and what happened in which order."""

    async def work() -> JsonObject | None:
        async with viewing(at) as view:
            return await view.explain(session, task=task)

    found = run(work())
    if found is None:
        _unknown(session)
    if as_json:
        json_line(found)
        return
    for part in (tree(found), *timeline(found)):
        console().print(part)


def tree(found: JsonObject) -> Tree:
    """An explained session as a tree: tasks, instances, leaves."""
    from rich.text import Text
    from rich.tree import Tree

    closed = " (closed)" if found["closed"] else ""
    root = Tree(text(f"session {found['session']}{closed}", "bold"), guide_style="dim")
    for task in _objects(found["tasks"]):
        label = text(str(task["task"]), "bold")
        if "run" in task:
            label.append_text(text(f"  runs {task['run']}", "dim"))
        branch = root.add(label)
        if "says" in task:
            branch.add(text(str(task["says"]), "dim"))
        for instance in _objects(task["instances"]):
            line = Text.assemble(
                text(str(instance["instance"]), "bold"),
                " ",
                status_text(str(instance["status"])),
                "  ",
                text(_aside(instance)),
            )
            node = branch.add(line)
            for leaf in _objects(instance["after"]):
                node.add(_leaf(leaf))
            for leaf in _objects(instance.get("unless")):
                node.add(_unless(leaf, waiting=str(instance["status"]) in _WAITING))
            if "result" in instance:
                node.add(text(f"returned {brief(instance['result'])}"))
    if not _objects(found["tasks"]):
        root.add(text("no task uses what has arrived", "dim"))
    return root


_WAITING = frozenset(status.value for status in WAITING)


def timeline(found: JsonObject) -> list[object]:
    """An explained session's timeline, as lines to print."""
    from rich.text import Text

    lines: list[object] = [text("timeline", "bold")]
    for row in _objects(found["timeline"]):
        what = str(row["what"])
        line = Text.assemble(
            text(_precise(row["time"]), "dim"),
            text(f"  {row['offset']:>5}  ", "dim"),
            text(f"{what:<9} ", _WHAT_STYLES.get(what, "")),
        )
        line.append_text(text(_event(row)))
        lines.append(line)
    return lines


_WHAT_STYLES = {"decided": "bold cyan", "refused": "red", "ignored": "dim", "reported": "green"}


def _event(row: JsonObject) -> str:
    if row["what"] == "decided":
        because = ", ".join(
            f"{cause['trigger']} (offset {_object(cause['by'])['offset']})"
            for cause in _objects(row["because"])
        )
        return f"{row['instance']} runs {row['run']}, because of {because}"
    note = f": {row['note']}" if row.get("note") else ""
    return f"{row['type']}{note}"


def _aside(instance: JsonObject) -> str:
    says = str(instance["says"])
    return "" if says == instance["status"] else says


def _leaf(leaf: JsonObject) -> Text:
    name = str(leaf["trigger"])
    if not leaf["met"]:
        return text(f"○ {name}: not arrived", "yellow")
    line = text(f"✓ {name} {brief(leaf['data'], 60)}", "green")
    return line.append_text(text(f"  {_by(_object(leaf['by']))}", "dim"))


def _unless(leaf: JsonObject, *, waiting: bool) -> Text:
    name = str(leaf["trigger"])
    if leaf["arrived"]:
        return text(f"✗ unless {name}: arrived at offset {leaf['offset']}", "red")
    return text(f"· unless {name}: {'not arrived' if waiting else 'had not arrived'}", "dim")


def _by(by: JsonObject) -> str:
    named = f", id {by['id']}" if "id" in by else ""
    source = f", from {by['source']}" if "source" in by else ""
    return f"offset {by['offset']}, {_short(by['time'])}{named}{source}"


def _matches(
    state: SessionState, *, task: str | None, status: str | None, decided_before_us: int | None
) -> bool:
    if task is None and status is None and decided_before_us is None:
        return True
    return any(
        (status is None or instance.status == status)
        and (decided_before_us is None or is_stuck(instance, decided_before_us))
        for name, record in state.tasks.items()
        if task is None or name == task
        for instance in record.instances()
    )


def is_stuck(instance: Instance, before_us: int) -> bool:
    """True if its command was handed over before ``before_us`` and nothing was heard since."""
    return instance.status in DECIDED and instance.changed_us < before_us


def _counts(state: SessionState) -> JsonObject:
    counts = {"waiting": 0, "running": 0, "failed": 0, "done": 0}
    for record in state.tasks.values():
        for instance in record.open.values():
            kind = instance.status
            name = "waiting" if kind in WAITING else "running" if kind in DECIDED else "failed"
            counts[name] += 1
        counts["done"] += record.next - len(record.open)
    return {**counts, "closed": state.closed, "clock": _instant(state.clock_us)}


def _fields(instance: Instance) -> JsonObject:
    return compact(
        {
            "status": instance.status.value,
            "kwargs": instance.stored_kwargs(),
            "result": instance.result,
            "error": instance.error,
            "reason": instance.reason,
            "metadata": instance.metadata,
            "attempt": instance.attempt,
            "retries": instance.retries,
            "created": _instant(instance.created_us),
            "decided": _instant(instance.decided_us),
            "started": _instant(instance.started_us),
            "ended": _instant(instance.ended_us),
            "changed": _instant(instance.changed_us),
        }
    )


def _end(instance: Instance) -> str:
    if instance.error is not None:
        return f"{instance.error}{f' ({instance.reason})' if instance.reason else ''}"
    if instance.status is Status.FINISHED:
        return brief(instance.result)
    return instance.reason or ""


def _unknown(session: str) -> NoReturn:
    click.echo(plain(f"{session}: nothing is known of this session"), err=True)
    sys.exit(1)


def _instant(instant_us: int | None) -> str | None:
    return None if instant_us is None else format_instant(instant_us)


def _short(instant: Json) -> str:
    """RFC 3339 text for people: whole seconds."""
    return "" if instant is None else str(instant).replace("T", " ").split(".")[0].removesuffix("Z") + "Z"


def _precise(instant: Json) -> str:
    """RFC 3339 text for people who compare instants: milliseconds."""
    whole, _, fraction = str(instant).replace("T", " ").removesuffix("Z").partition(".")
    return f"{whole}.{fraction[:3].ljust(3, '0')}Z"


def _objects(value: Json) -> list[JsonObject]:
    return cast("list[JsonObject]", value or [])


def _object(value: Json) -> JsonObject:
    return cast("JsonObject", value)
