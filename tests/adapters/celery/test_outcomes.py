"""What can be reported, without any worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature
from celery.result import AsyncResult, EagerResult, GroupResult
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.celery.conftest import command
from triggerstream.adapters.celery import outcomes
from triggerstream.adapters.celery.delivery import HEADER, Delivery, delivery_of, header_of, read_delivery
from triggerstream.adapters.celery.plain_values import NotReportableError, plain
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Failed, FailureReason, Finished, Retried, Skipped
from triggerstream.wire.json import dumps, loads

SENT = command("echo")


def delivery() -> Delivery:
    found = delivery_of({HEADER: header_of(SENT)})
    assert found is not None
    return found


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda below: st.lists(below) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), below),
    max_leaves=20,
)


@given(json_values)
def test_what_is_json_is_reported_as_it_is(value: object) -> None:
    assert plain(value) == value
    found = outcomes.decode(outcomes.finished(delivery(), value))
    assert isinstance(found, Finished)
    assert found.result == value


@given(st.from_type(type).flatmap(st.from_type) | json_values)
def test_any_value_is_reported_or_refused(value: object) -> None:
    try:
        found = plain(value)
    except NotReportableError:
        return
    assert loads(dumps(found)) == found


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


def test_tuples_and_enumerations_become_what_they_are_in_json() -> None:
    assert plain({"a": (1, Colour.RED, Level.HIGH)}) == {"a": [1, "red", 3]}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, {2}]}, "/a/1: set is no JSON"),
        ({"a": float("inf")}, "/a: inf is no JSON number"),
        (2**63, "/: an integer beyond"),
        (-(2**63) - 1, "/: an integer beyond"),
        ({("a", "b"): 1}, "/: the key ('a', 'b') has no JSON form"),
        ({1: "a", "1": "b"}, "/: two keys become '1' as text"),
        ("\ud800", "/: not valid Unicode"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(value: object, says: str) -> None:
    with pytest.raises(NotReportableError) as caught:
        plain(value)
    assert str(caught.value).startswith(says)


class Model:
    def model_dump(self, *, mode: str) -> object:
        return {"mode": mode}


class Array:
    def tolist(self) -> list[int]:
        return [1]


class Unreadable(dict[str, object]):
    def items(self) -> Any:  # noqa: ANN401 - never returns
        raise ValueError("its database is gone")


async def steps() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ({1, 2}, "a list of what it holds"),
        (frozenset(), "a list of what it holds"),
        ((n for n in range(3)), "a list of what it holds"),
        (map(str, [1]), "a list of what it holds"),
        (steps(), "asyncio.run("),
        (bytearray(b"bytes"), "bytes(…) of it"),
        (timedelta(1), "total_seconds()"),
        (Path(), "str(…) of it"),
        (ValueError("no"), "str(…) of it"),
        (Model(), 'model_dump(mode="json")'),
        (Array(), "tolist()"),
        (object(), "use what describes it"),
        (Signature("a.task"), "nothing of it ran: call its apply_async()"),
        ({"a": [Signature("a.task")]}, "nothing of it ran: call its apply_async()"),
        (chain(Signature("a.task"), Signature("a.task")), "nothing of it ran: call its apply_async()"),
        (group([Signature("a.task")]), "nothing of it ran: call its apply_async()"),
        (chord([Signature("a.task")], Signature("a.task")), "nothing of it ran: call its apply_async()"),
        (AsyncResult("an id", app=Celery()), "use its id (`result.id`)"),
        (EagerResult("an id", 1, "SUCCESS"), "use its id (`result.id`)"),
        (GroupResult("an id", [], app=Celery()), "use its id (`result.id`)"),
        (Unreadable(), "/: cannot be read: ValueError: its database is gone"),
    ],
    ids=lambda value: value[:16] if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_reported_says_what_to_return_instead(value: object, advice: str) -> None:
    with pytest.raises(NotReportableError) as caught:
        outcomes.finished(delivery(), value)
    assert advice in str(caught.value)
    failed = outcomes.decode(outcomes.not_reportable(delivery(), caught.value))
    assert isinstance(failed, Failed)
    assert failed.reason is FailureReason.RESULT_NOT_REPORTABLE


def test_returned_coroutine_says_that_nothing_ran() -> None:
    async def work() -> None: ...

    coroutine = work()
    with pytest.raises(NotReportableError, match="nothing of it ran"):
        plain(coroutine)
    coroutine.close()


def test_a_ring_is_refused() -> None:
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(NotReportableError, match="deeper"):
        plain(ring)


def test_a_result_as_deep_as_an_event_can_hold_is_reported() -> None:
    deep: object = 1
    for _ in range(62):
        deep = [deep]
    loads(outcomes.finished(delivery(), deep))
    with pytest.raises(NotReportableError, match="deeper"):
        outcomes.finished(delivery(), [deep])


def test_a_long_error_keeps_its_end_of_the_traceback_within_bounds() -> None:
    found = outcomes.decode(outcomes.failed_with(delivery(), ValueError("é\ud800" * 100_000)))
    assert isinstance(found, Failed)
    assert found.error.startswith("ValueError: é")
    assert len(found.error) < 10_000


def test_an_exception_that_cannot_say_what_it_is_is_still_reported() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    found = outcomes.decode(outcomes.failed_with(delivery(), MuteError()))
    assert isinstance(found, Failed)
    assert found.error == "MuteError"


def test_skips_and_retries_carry_what_the_task_said() -> None:
    skipped = outcomes.decode(outcomes.skipped(delivery(), {"why": "so"}))
    assert skipped == Skipped(instance=SENT.instance, command=SENT.id, metadata={"why": "so"})
    retried = outcomes.decode(outcomes.retried(delivery(), after_s=1.5, kwargs={"go": {}}))
    assert retried == Retried(instance=SENT.instance, command=SENT.id, kwargs={"go": {}}, after_us=1_500_000)
    with pytest.raises(NotReportableError, match="object"):
        outcomes.skipped(delivery(), ["no object"])


def test_a_message_without_our_header_is_left_alone() -> None:
    assert delivery_of(None) is read_delivery({}) is read_delivery({HEADER: None}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 1},
        {"session": ""},
        {"session": "\ud800"},
        {"instance": "no number"},
        {"attempt": -1},
        {"causes": 5},
        {"causes": [5]},
        {"causes": [{"offset": 1}]},
        {"causes": [{"trigger": "a", "offset": "1"}]},
        {"traceparent": 1},
        {"putBack": "1"},
    ],
)
def test_a_header_of_a_wrong_form_is_refused(wrong: dict[str, object]) -> None:
    header = {HEADER: {**header_of(SENT), **wrong}}
    assert delivery_of(header) is None
    with pytest.raises(DecodeError):
        read_delivery(header)


@pytest.mark.parametrize("header", ["text", [], {}, 5, {"id": "x"}])
def test_a_header_that_is_no_command_is_refused(header: object) -> None:
    with pytest.raises(DecodeError):
        read_delivery({HEADER: header})
