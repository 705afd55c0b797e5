"""Words for instants and due times, and for a session's clock, the same on a terminal and on a page."""

from __future__ import annotations

from triggerstream.core import advice
from triggerstream.core.durations import describe_duration, short_duration
from triggerstream.core.ids import Instant
from triggerstream.core.timers import DueOf
from triggerstream.engine.clock_step import LARGEST_STEP_US
from triggerstream.wire.instants import format_instant


def due_in(due_us: Instant, *, now_us: int | None) -> str:
    """The time until an instant; the instant itself if the time now does not matter, as in the past."""
    if now_us is None:
        return f"at {milliseconds(due_us)}"
    if due_us > now_us:
        return f"in {short_duration(due_us - now_us)}"
    return f"overdue by {short_duration(now_us - due_us)}"


def due_short(due_us: Instant, *, now_us: int) -> str:
    """When a timer fires, relative to now and in whole seconds, for a list."""
    return f"{due_in(due_us, now_us=now_us)} ({seconds(due_us)})"


def due(due_us: Instant, due_of: DueOf | None, *, now_us: int | None) -> str:
    """When a timer fires, relative to now and as an instant."""
    at = milliseconds(due_us)
    if due_of is DueOf.DEADLINE:
        head = "expires" if now_us is None or due_us > now_us else "its deadline is"
    else:
        head = "" if now_us is not None and due_us <= now_us else "due"
    when = at if now_us is None else f"{due_in(due_us, now_us=now_us)} ({at})"
    return f"{head} {when}".lstrip()


def seconds(instant: int | str | None) -> str:
    """An instant for people: whole seconds."""
    return "" if instant is None else _text(instant).replace("T", " ").split(".")[0].removesuffix("Z") + "Z"


def last_event(last: Instant | None, clock: Instant | None, *, now_us: int) -> str:
    """Time of a session's last event: whole seconds, and how far ahead its clock is if it is far ahead.

    A session that was erased has no last event.
    """
    if not clock:
        return "erased"
    ahead_us = clock - now_us
    ahead = f" (clock {describe_duration(ahead_us)} ahead)" if ahead_us > LARGEST_STEP_US else ""
    return seconds(last or clock) + ahead


def clock(last: Instant | None, clock: Instant | None) -> str:
    """The session's clock, where that is not simply the time of its last event; else empty."""
    shown = seconds(clock) if clock else ""
    return "" if not clock or shown == seconds(last or clock) else f"its clock: {shown}"


def ahead(clock: Instant | None, *, now_us: int) -> str | None:
    """Warning about a session's clock that is far ahead; None if it is not."""
    if not clock or clock - now_us <= LARGEST_STEP_US:
        return None
    return (
        f"its clock is {describe_duration(clock - now_us)} ahead, because an event arrived while a clock was "
        f"wrong: timers that start now are due after {seconds(clock)}; {advice.release_instance()}"
    )


def milliseconds(instant: int | str) -> str:
    """An instant for people who compare instants: milliseconds."""
    whole, _, fraction = _text(instant).replace("T", " ").removesuffix("Z").partition(".")
    return f"{whole}.{fraction[:3].ljust(3, '0')}Z"


def _text(instant: int | str) -> str:
    return instant if isinstance(instant, str) else format_instant(instant)
