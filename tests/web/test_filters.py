"""Filters of the session list as parameters of a request."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.core.listing import Filter
from triggerstream.core.state import Status
from triggerstream.web.filters import filter_of, parameters_of

FULL = Filter(task=TaskName("t_report"), status=Status.FAILED, waits_for=TriggerName("module1Received"))


@pytest.mark.parametrize("name", [field.name for field in fields(Filter)])
def test_every_field_of_a_filter_counts_and_is_sent_to_other_workers(name: str) -> None:
    wanted = replace(Filter(), **{name: getattr(FULL, name)})
    assert wanted != Filter(), f"give {name} a value in FULL"
    assert not wanted.is_empty()
    assert wanted.tags()
    assert filter_of({k: v for k, v in parameters_of(wanted).items() if v is not None}) == wanted


def test_an_empty_parameter_is_no_filter() -> None:
    assert filter_of({"task": "", "status": "", "waitsFor": ""}).is_empty()


def test_an_unknown_status_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(DecodeError, match="status: is one of unstarted, "):
        filter_of({"status": "late"})
