"""Lines and tables about the checks and rebuilds of replays."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from triggerstream.cli.printing import compact, json_line, print_line, table
from triggerstream.core.ids import Json, JsonObject

if TYPE_CHECKING:
    from triggerstream.engine.replay.check import Checked
    from triggerstream.engine.replay.rebuild import Rebuilt
    from triggerstream.engine.replay.refold import Difference

_LONG = 400
_LINES = 20
"""The most differences of a partition in the output for people; --json has up to 1,000."""
_SOURCES = {
    "checkpoint": "its checkpoint",
    "group": "the group's offset",
    "given": "--from-offset",
    "empty": "an empty log",
}


def difference_fields(partition: int, difference: Difference) -> JsonObject:
    """A difference between the stored data and the log, for programs."""
    fields: JsonObject = {"partition": partition, "session": difference.session, "place": difference.place}
    for name, text in (("kept", difference.kept), ("log", difference.log)):
        if text is not None:
            value: Json = orjson.loads(text)
            fields[name] = value
    return fields


def checked_fields(one: Checked) -> JsonObject:
    """The result of a check, for programs."""
    return compact(
        {
            "partition": one.partition,
            "offset": one.offset,
            "events": one.events,
            "sessions": one.sessions,
            "differing": one.differing,
            "agrees": one.agrees,
            "fold": one.fold,
            "refused": one.refused,
        }
    )


def rebuilt_fields(one: Rebuilt, *, dry_run: bool) -> JsonObject:
    """The result of a rebuild, for programs."""
    return compact(
        {
            "partition": one.partition,
            "offset": one.offset,
            "source": one.source.value,
            "events": one.events,
            "sessions": one.sessions,
            "elsewhere": one.elsewhere,
            "toDecide": one.to_decide,
            "fold": one.fold,
            "lost": one.lost.sessions or None,
            "rebuilt": not dry_run,
        }
    )


def show_differences(one: Checked) -> None:
    """Print the first differences of a partition, or why it was not checked."""
    if one.refused is not None:
        print_line(f"partition {one.partition}: {one.refused}")
    for difference in one.differences[:_LINES]:
        line = str(difference)
        print_line(f"partition {one.partition}: {line if len(line) <= _LONG else line[: _LONG - 1] + '…'}")
    if len(one.differences) > _LINES:
        print_line(f"partition {one.partition}: there are more: --json has up to 1,000")


def json_new_commands(one: Checked | Rebuilt) -> None:
    """Print the commands that only this release decides, for programs."""
    for new in one.new_commands:
        json_line(
            {
                "partition": one.partition,
                "session": new.session,
                "instance": new.instance,
                "newCommand": new.command,
            }
        )


def show_fold(one: Checked | Rebuilt) -> None:
    """Print the sessions' fold version if it differs, and the commands that only this release decides."""
    from triggerstream.core.tasks import FOLD_VERSION

    if one.fold is None:
        return
    which = f"version {one.fold} of the fold, and this release has {FOLD_VERSION}"
    print_line(f"partition {one.partition}: its sessions were folded with {which}")
    for new in one.new_commands[:_LINES]:
        decided = f"only this release decides {new.instance} of session {new.session}, command {new.command}"
        print_line(f"partition {one.partition}: {decided}")
    if len(one.new_commands) > _LINES:
        more = f"there are {len(one.new_commands):,} such commands: --json has all"
        print_line(f"partition {one.partition}: {more}")


def show_checked(found: Sequence[Checked]) -> None:
    """Print a table of checked partitions."""
    table(
        ["partition", "up to offset", "events", "sessions", "differing"],
        [
            [
                str(one.partition),
                str(one.offset),
                f"{one.events:,}",
                f"{one.sessions:,}",
                f"{one.differing:,}" if one.refused is None else "not checked",
            ]
            for one in found
        ],
    )


def show_rebuilt(found: Sequence[Rebuilt]) -> None:
    """Print a table of rebuilt partitions."""
    table(
        ["partition", "continues at", "according to", "events", "sessions", "commands to decide"],
        [
            [
                str(one.partition),
                str(one.offset),
                _SOURCES[one.source.value],
                f"{one.events:,}",
                f"{one.sessions:,}",
                "" if one.to_decide is None else f"{one.to_decide:,}",
            ]
            for one in found
        ],
    )


def pace(events: int, started: float) -> str:
    """The number of events in the time since ``started``."""
    took_s = max(time.monotonic() - started, 0.001)
    return f"{events:,} events in {took_s:.1f} s, {events / took_s:,.0f} a second"
