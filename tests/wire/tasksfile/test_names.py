"""Names of a file that were probably not meant."""

from __future__ import annotations

import json

import pytest

from triggerstream.core.errors import ConfigError, Finding
from triggerstream.wire import tasksfile


def findings(*after: str) -> list[Finding]:
    text = json.dumps({"t_report": {"after": list(after), "run": "my_app.tasks.Report"}}, ensure_ascii=False)
    return list(tasksfile.check(text, name="tasks.json")[1])


def test_a_trigger_misspelt_in_one_place_is_a_warning_with_both_places() -> None:
    (found,) = findings("module1Received", "module1Recieved")
    assert (found.severity, found.code, found.path) == ("warning", "nearly-alike", "/t_report/after/1")
    assert found.message == (
        "`module1Recieved` is nearly the same as `module1Received` at 1:25: is one of them misspelt?"
    )


def test_tasks_that_differ_in_case_are_a_warning() -> None:
    text = '{"t_A": {"after": ["a"], "run": "x"}, "t_a": {"after": ["b"], "run": "x"}}'
    (found,) = tasksfile.check(text, name="f")[1]
    assert (found.code, found.path) == ("nearly-alike", "/t_a")


def test_letters_of_two_alphabets_are_named() -> None:
    (found,) = [one for one in findings("orderPaid", "ord\u0435rPaid") if one.code == "nearly-alike"]
    assert found.message.endswith("They differ in U+0435 (cyrillic small letter ie)")


def test_invisible_characters_are_shown_as_code_points() -> None:
    found = {one.code: one.message for one in findings("order\u200bPaid")}
    assert found["invisible-character"] == (
        "`order<U+200B>Paid` has characters that nobody sees: U+200B (zero width space)"
    )
    assert all("\u200b" not in message for message in found.values())


def test_a_name_that_is_not_nfkc_is_a_warning_and_so_are_two_names_that_become_equal() -> None:
    found = [(one.code, one.path) for one in findings("\ufb01led", "filed")]
    assert found == [("not-normalized", "/t_report/after/0"), ("nearly-alike", "/t_report/after/1")]


def test_each_name_is_reported_once_and_numbers_are_different_on_purpose() -> None:
    assert findings("module1Received", "module2Received", "step_a", "step_b") == []
    text = json.dumps({f"t_{n}": {"after": ["a\u200b"], "run": "x"} for n in range(3)})
    assert [f.code for f in tasksfile.check(text, name="f")[1]].count("invisible-character") == 1


def test_a_file_that_is_read_for_use_is_not_searched_for_doubtful_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: list[object] = []
    monkeypatch.setattr(
        "triggerstream.wire.tasksfile.reader.check_names", lambda *args: searched.append(args)
    )
    tasksfile.read('{"t": {"after": ["a"], "run": "x"}}', name="f")
    assert searched == []
    with pytest.raises(ConfigError):
        tasksfile.read('{"t": {"after": ["a"]}}', name="f")
    assert len(searched) == 1
