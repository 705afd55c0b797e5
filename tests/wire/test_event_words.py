"""Events in words: what each text means, and the one error of any other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.errors import DecodeError
from triggerstream.wire.event_words import Advance, SetClock, read_words


def data_of(text: str) -> Any:  # noqa: ANN401 - JSON
    words = read_words(f"42 a {text}")
    assert isinstance(words, dict)
    assert (words["session"], words["type"]) == ("42", "a")
    return words["data"]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", {}),
        ("score=3 ok=true none=null half=0.5", {"score": 3, "ok": True, "none": None, "half": 0.5}),
        ("name=Ada path=a=b empty=", {"name": "Ada", "path": "a=b", "empty": ""}),
        ("empty= n=1", {"empty": "", "n": 1}),
        ("zip=04109 quoted=\"04109\" single='04109'", {"zip": "04109", "quoted": "04109", "single": "04109"}),
        ('name="Ada Lovelace" said=\'a "word"\'', {"name": "Ada Lovelace", "said": 'a "word"'}),
        (r'line="a\nb \u00e9"', {"line": "a\nb é"}),
        ('tags=["a", "b"] box={"x": [1, 2]}', {"tags": ["a", "b"], "box": {"x": [1, 2]}}),
        ("draft=[a b=1", {"draft": "[a", "b": 1}),
        ("order.id=5 order.by.name=Ada", {"order": {"id": 5, "by": {"name": "Ada"}}}),
        ('order={"id": 5} order.by=Ada', {"order": {"id": 5, "by": "Ada"}}),
        ("not=NaN", {"not": "NaN"}),
    ],
)
def test_pairs_are_the_data(text: str, data: dict[str, Any]) -> None:
    assert data_of(text) == data


def test_a_session_and_a_trigger_may_be_in_quotes() -> None:
    assert read_words("'my session' \"a trigger\" x=1") == {
        "session": "my session",
        "type": "a trigger",
        "data": {"x": 1},
    }


@pytest.mark.parametrize(
    ("text", "kind", "data"),
    [
        ("started", "task.started", {}),
        ("finished", "task.finished", {}),
        ("finished result=7", "task.finished", {"result": 7}),
        ("finished result.total=7", "task.finished", {"result": {"total": 7}}),
        ("failed error='disk full'", "task.failed", {"error": "disk full"}),
        ("retried after=1m30s kwargs.a.n=1", "task.retried", {"after": 90, "kwargs": {"a": {"n": 1}}}),
        ("skipped", "task.skipped", {}),
        ("revoked", "task.revoked", {}),
        ("skip cascade=true by=ada", "instance.skip", {"cascade": True, "by": "ada"}),
        ("replay force=true", "instance.replay", {"force": True}),
        ("cancel reason=enough", "instance.cancel", {"reason": "enough"}),
        ("resend", "instance.resend", {}),
        ("release", "instance.release", {}),
    ],
)
def test_outcomes_and_orders_name_their_instance(text: str, kind: str, data: dict[str, Any]) -> None:
    assert read_words(f"42 t_report#0 {text}") == {
        "session": "42",
        "type": f"triggerstream.{kind}",
        "data": {"instance": "t_report#0", **data},
    }


def test_the_clock_is_moved_by_a_duration_or_set() -> None:
    assert read_words("+1h30m") == Advance(5_400_000_000)
    assert read_words("@1970-01-02T00:00:00Z") == SetClock(86_400_000_000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a session is missing: write SESSION TRIGGER KEY=VALUE…"),
        ("42", "a trigger is missing"),
        ("'' a", "a session is empty"),
        ("42 a b", "`b`: write KEY=VALUE, such as score=3"),
        ("42 a =b", "`=b`: write KEY=VALUE"),
        ("42 a b=1 b=2", "`b` is given twice"),
        ("42 a b=1 b.c=2", "`b.c`: `b` has a value already"),
        ("42 a b.c=1 b=2", "`b` is given twice"),
        ("42 a b..c=1", "`b..c`: a key is a name, or names with a dot between them"),
        ("42 a b='c", "the quote ' before `c` is not closed"),
        ('42 a b="c', 'the quote " before `c` is not closed'),
        ("42 a b='c'd", "a space is missing between ' and `d`"),
        ("42 a b=[1]d", "a space is missing between ] and `d`"),
        ('42 a b={"c":1,"c":2}', "b: the key `c` stands twice in one object"),
        ("42 a n=123456789012345678901234567890", "n: integer 123456789012345678901234"),
        ("42 t#0", "after the instance `t#0` there must be what became of it: `started`"),
        ("42 t#0 finshed", "`finshed` is nothing that becomes of an instance: did you mean `finished`?"),
        ("42 t#0 went", "`went` is nothing that becomes of an instance: write one of `started`"),
        ("42 t finished", "`finished`: an instance has a number: did you mean `t#0 finished`?"),
        ("42 t#0 failed eror=x", "unknown key `eror`: did you mean `error`?"),
        ("42 t#0 failed instance=x", "unknown key `instance`"),
        ("+3w", "did you mean `+21d`?"),
        ("+1 day", "did you mean `+1d`?"),
        ("+1M", "write + and a duration: +90s"),
        ("+-1d", "write + and a duration: +90s"),
        ("+", "write + and a duration"),
        ("@noon", "after @: must be an RFC 3339 instant"),
    ],
)
def test_any_other_text_is_one_error_that_says_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read_words(text)
    assert str(caught.value).startswith(says)


@given(st.text() | st.from_regex(r"[s+@'\"] ?(a|t#0) ?[a-c.=\[{'\" ]*", fullmatch=True))
def test_no_text_raises_another_error(text: str) -> None:
    try:
        words = read_words(text)
    except DecodeError:
        return
    assert isinstance(words, dict | Advance | SetClock)
