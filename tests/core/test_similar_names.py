"""Names that people confuse, and names that are different on purpose."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.similar_names import (
    alike_pairs,
    are_alike,
    describe_character,
    invisible_characters,
    nearest,
)

ALIKE = [
    ("module1Received", "module1Recieved"),
    ("module1Received", "module1Recived"),
    ("module1_received", "module1Received"),
    ("t_A", "t_a"),
    ("survey_withdrawn", "surveyWithdrwan"),
    ("mailSent", "mailSend"),
    ("cafe", "caf\u00e9"),
    ("orderPlaced", "roderPlaced"),
    ("orderPlaced", "oderPlaced"),
    ("notificationAcknowledged", "notificationAknowleged"),
    ("a", "\u0430"),
    ("module1Received", "module1Receiv\u0435d"),
    ("order\u200bPaid", "orderPaid"),
    ("\ufb01le", "file"),
    ("x" * 500 + "A", "x" * 500 + "a"),
]
MEANT = [
    ("module1Received", "module2Received"),
    ("module1Received", "moduleReceived"),
    ("t_a", "t_b"),
    ("step_a", "step_b"),
    ("planA", "planB"),
    ("jobStarted", "jobRestarted"),
    ("loaded", "unloaded"),
    ("userCreated", "userUpdated"),
    ("orderAccepted", "orderRejected"),
    ("x" * 500 + "a", "x" * 500 + "b"),
    ("orderShipped", "t_orderShipped"),
    ("orderShipped", "onOrderShipped"),
    ("orderPacked", "orderPlaced"),
    ("items_imported", "items_exported"),
    ("t_import_done", "t_export_done"),
    ("create_invoice", "create_invoices"),
    ("userAdded", "usersAdded"),
    ("north_region", "south_region"),
    ("encode_video", "decode_video"),
    ("upload_video", "reload_video"),
    ("buyer_notified", "payer_notified"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_like_a_slip_are_alike(one: str, other: str) -> None:
    assert are_alike(one, other)
    assert are_alike(other, one)
    assert list(alike_pairs([one, "unrelated", other])) == [(one, other)]


@pytest.mark.parametrize(("one", "other"), MEANT)
def test_names_that_differ_on_purpose_are_not_alike(one: str, other: str) -> None:
    assert not are_alike(one, other)
    assert list(alike_pairs([one, other])) == []


@given(st.lists(st.text("abAB1_\u200b", min_size=1, max_size=6), unique=True, max_size=6))
def test_pairs_are_found_without_comparing_all_with_all(names: list[str]) -> None:
    found = set(alike_pairs(names))
    assert found == {
        (one, other)
        for place, one in enumerate(names)
        for other in names[place + 1 :]
        if are_alike(one, other)
    }


def test_invisible_characters_are_named_once_each() -> None:
    assert invisible_characters(" a\u200b b\u200b\u00a0") == [" ", "\u200b", "\u00a0"]
    assert invisible_characters("plain name") == []
    assert describe_character("\u200b") == "U+200B (zero width space)"
    assert describe_character("\x1b") == "U+001B (a control character)"


def test_the_nearest_name_is_the_one_that_was_probably_meant() -> None:
    known = ["module1Received", "module4Received", "surveyWithdrawn"]
    assert nearest("module1Recv", known) == "module1Received"
    assert nearest("SURVEY_WITHDRAWN", known) == "surveyWithdrawn"
    assert nearest("zzz", known) is None
    assert nearest("\u0430", ["b", "a"]) == "a"
    assert nearest("anything", []) is None


@pytest.mark.parametrize(
    ("name", "known", "likely"),
    [
        ("file2", ["file1"], None),
        ("file2", ["file1", "fiel2"], "fiel2"),
        ("module10Recieved", ["module1Received", "module10Received"], "module10Received"),
        ("module10Recieved", ["module1Received"], None),
        ("step_1_of_2", ["step_2_of_1"], None),
        ("file02", ["file2"], None),
        ("moduleReceived", ["module1Received"], "module1Received"),
        ("approved2", ["approved"], "approved"),
    ],
)
def test_names_with_different_numbers_are_never_near(name: str, known: list[str], likely: str | None) -> None:
    assert nearest(name, known) == likely


def test_a_family_of_names_that_differ_in_a_letter_takes_bounded_time() -> None:
    names = [f"field{''.join(letters)}" for letters in product("abcdefghijkl", repeat=3)]
    pairs = list(alike_pairs(names))
    assert 0 < len(pairs) < 100 * len(names)
