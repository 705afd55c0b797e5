"""Comparisons that no event can fulfil, with what was probably meant."""

from __future__ import annotations

import pytest

from triggerstream.core.where import WhereError, comparison_of_two_types, compile_where


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "2 <= data.level <= 4",
            (
                "`2 <= data.level` gives true or false, which `<=` cannot compare with 4: write "
                "`2 <= data.level && data.level <= 4`"
            ),
        ),
        (
            "data.x && (1 < data.a.b < 5 || data.y)",
            (
                "`1 < data.a.b` gives true or false, which `<` cannot compare with 5: write "
                "`1 < data.a.b && data.a.b < 5`"
            ),
        ),
        (
            "!data.score == 3",
            "`!data.score` gives true or false, which never equals 3: write `!(data.score == 3)`",
        ),
        ("!(data.a == data.b) == 3", "its left side gives true or false, which never equals 3"),
        ("1 + 1 <= data.a <= 4", "its left side gives true or false, which `<=` cannot compare with 4"),
        ("size(data.x) == '3'", 'its left side gives a number, which never equals "3"'),
        ("session > 5", "`session` gives a string, which `>` cannot compare with 5"),
        ("time > '2026-03-01'", '`time` gives a timestamp, which `>` cannot compare with "2026-03-01"'),
        ("data.a in [1, 2] == 3", "its left side gives true or false, which never equals 3"),
    ],
)
def test_a_comparison_of_two_types_is_described(text: str, says: str) -> None:
    assert comparison_of_two_types(compile_where(text)) == says


@pytest.mark.parametrize(
    "text",
    [
        "2 <= data.level && data.level <= 4",
        "!(data.score == 3)",
        "!data.done == true",
        "(data.a > 3) == data.b",
        "data.a + 1 < 5",
        "time - timestamp('2026-03-01T00:00:00Z') > duration('1h')",
        "size(data.x) == 3.0",
        "id == null",
        "data.list.exists(x, x > 3) == (data.y == 1)",
        "1 in data.list",
    ],
)
def test_other_comparisons_are_not(text: str) -> None:
    assert comparison_of_two_types(compile_where(text)) is None


@pytest.mark.parametrize(
    ("text", "says", "column"),
    [
        ("data.x in (1, 2)", "a list is written in brackets: `[1, 2]`", 11),
        ("data.x between 2 and 3", "write `x >= 2 && x <= 3` instead of `x between 2 and 3`", 8),
    ],
)
def test_comparisons_of_other_languages_are_answered(text: str, says: str, column: int) -> None:
    with pytest.raises(WhereError) as raised:
        compile_where(text)
    assert (raised.value.message, raised.value.column) == (says, column)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data.x in (1)", "`in` needs a list on its right, not a number: write `in [1]`"),
        ('!(data.x in "a")', '`in` needs a list on its right, not a string: write `in ["a"]`'),
        ("data.x in ([1])", None),
        ("data.x in (data.y)", None),
    ],
)
def test_one_value_on_the_right_of_in_is_answered_with_a_list(text: str, says: str | None) -> None:
    assert comparison_of_two_types(compile_where(text)) == says
