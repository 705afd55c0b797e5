"""Filters of the session list as parameters of a request."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.core.listing import Filter
from triggerstream.core.state import Status
from triggerstream.web.filters import filter_of, parameters_of

NOW_US = 1_767_225_600_000_000
FULL = Filter(
    task=TaskName("t_report"),
    status=Status.FAILED,
    waits_for=TriggerName("module1Received"),
    due_by_us=NOW_US + 1,
)


@pytest.mark.parametrize("name", [field.name for field in fields(Filter)])
def test_every_field_of_a_filter_counts_and_is_sent_to_other_workers(name: str) -> None:
    wanted = replace(Filter(), **{name: getattr(FULL, name)})
    assert wanted != Filter(), f"give {name} a value in FULL"
    assert not wanted.is_empty()
    assert wanted.tags()
    assert filter_of({k: v for k, v in parameters_of(wanted).items() if v is not None}, now_us=0) == wanted


def test_an_empty_parameter_is_no_filter() -> None:
    assert filter_of({"task": "", "status": "", "waitsFor": "", "due": ""}, now_us=0).is_empty()


def test_an_unknown_status_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DecodeError, match="status: is one of unstarted, "):
        filter_of({"status": "late"}, now_us=0)


@pytest.mark.parametrize(
    ("text", "due_by_us"),
    [
        ("overdue", NOW_US),
        ("2h", NOW_US + 7_200_000_000),
        ("2026-01-01T00:00:00.5Z", NOW_US + 500_000),
        ("any", 253_402_300_799_000_000),
        ("36500d", NOW_US + 36_500 * 86_400_000_000),
    ],
)
def test_a_due_time_is_relative_to_now_or_an_instant(text: str, due_by_us: int) -> None:
    assert filter_of({"due": text}, now_us=NOW_US).due_by_us == due_by_us


def test_a_due_time_that_is_none_is_refused_with_the_forms_that_there_are() -> None:
    with pytest.raises(DecodeError, match="due: is `overdue`, `any`, a duration such as 2h, or an RFC 3339"):
        filter_of({"due": "soon"}, now_us=NOW_US)
