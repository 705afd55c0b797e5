"""Renders JSON values as pages. All content from applications is shown as text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from triggerstream.core.answers import ExplainedInstance
from triggerstream.core.durations import duration_in_words
from triggerstream.core.ids import Json
from triggerstream.core.orders import applicable_orders
from triggerstream.core.printable import STEERING, ranges
from triggerstream.core.state import Status
from triggerstream.present import condition_words, time_words, words
from triggerstream.web.filters import ANY_TIME, DUE_WITHIN, OVERDUE
from triggerstream.wire.durations import parse_duration
from triggerstream.wire.instants import format_instant
from triggerstream.wire.json import dumps

MOST_CHARACTERS = 2_000
"""Characters of one value on a page; the JSON has all of it."""
MOST_INSTANCES = 200
"""Instances of one session on its page."""

_ODD = re.compile(f"(?![\t\n])[{STEERING}]")
"""Characters that could make one text look like another. Line breaks are shown as they are."""


def page(name: str, values: Mapping[str, object]) -> str:
    """Render the template ``name`` with ``values``."""
    made = _environment()
    # Values may come from another worker's answer: none may replace a function of the templates.
    own = {key: value for key, value in values.items() if key not in made.globals}
    return made.get_template(f"{name}.html").render(own)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("triggerstream.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        plain=plain,
        condition=condition,
        brief=brief,
        instant=format_instant,
        ranges=ranges,
        seconds=time_words.seconds,
        ahead=lambda clock: time_words.ahead(clock, now_us=_now_us()),
        milliseconds=time_words.milliseconds,
        happened=words.event,
        by=words.by,
        taken=condition_words.taken,
        event_number=words.event_number,
        kind=words.status_kind,
        number=number,
        session_url=session_url,
    )
    made.globals.update(
        last_event=lambda last, clock: time_words.last_event(last, clock, now_us=_now_us()),
        clock=time_words.clock,
        headline=words.headline,
        held=words.held,
        is_failure=words.is_failure,
        looks_failed=words.looks_failed,
        status_word=words.status_word,
        status_meaning=words.status_meaning,
        rerun_kind=words.rerun_kind,
        rerun_of=words.rerun_of,
        round_words=words.round_words,
        aside=words.aside,
        due=time_words.due,
        due_in=time_words.due_in,
        now_us=_now_us,
        other_error=words.other_error,
        long_error=words.long_error,
        orders=orders,
        query=query,
        parameters=parameters,
        unless=condition_words.unless,
        unless_blocks=condition_words.unless_blocks,
        unless_head=condition_words.unless_head,
        unless_mark=condition_words.unless_mark,
        list_members=condition_words.list_members,
        is_list_of_plain_leaves=condition_words.is_list_of_plain_leaves,
        takes_one=condition_words.takes_one,
        mark=condition_words.mark,
        group=condition_words.group,
        leaf_title=condition_words.leaf_title,
        leaf_progress=condition_words.leaf_progress,
        leaf_remarks=condition_words.leaf_remarks,
        more_events=condition_words.more_events,
        most_events=condition_words.MOST_EVENTS,
        no_instance=words.no_instance,
        unused=words.unused,
        statuses=[s.value for s in Status],
        due_choices=_DUE_CHOICES,
    )
    return made


_DUE_CHOICES = [
    (OVERDUE, "overdue"),
    *((choice, f"within {duration_in_words(parse_duration(choice) or 0)}") for choice in DUE_WITHIN),
    (ANY_TIME, "at any time"),
]


def plain(value: object) -> str:
    """``value`` with control characters escaped."""
    return _ODD.sub(lambda match: f"\\u{ord(match[0]):04x}", str(value))


def condition(value: Json) -> str:
    """A condition of a tasks file in one line: a trigger's name, or JSON."""
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def brief(value: Json) -> str:
    """``value`` as JSON, cut if it is too long for a page."""
    text = plain(dumps(value).decode())
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters; the JSON has them all)"


def number(value: Json) -> str:
    """A figure for people; a dash where it is not known."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def orders(instance: ExplainedInstance) -> list[str]:
    """The orders that apply to ``instance``."""
    return applicable_orders(instance.status)


def session_url(session: str) -> str:
    """The address of a session's page. Browsers take ``.`` and ``..`` in a path for something else."""
    if session in {".", ".."}:
        return f"/sessions/id?{urlencode({'id': session})}"
    return f"/sessions/{quote(session, safe='')}"


def parameters(session: str, **values: str | None) -> str:
    """The part of a URL after :func:`session_url` with these parameters; empty if none has a value."""
    found = query(**values)
    return f"{'&' if '?' in session_url(session) else '?'}{found}" if found else ""


def query(**values: str | None) -> str:
    """A query string of the parameters that have a value."""
    return urlencode({name.rstrip("_"): value for name, value in values.items() if value})


def _now_us() -> int:
    return time.time_ns() // 1_000
