"""Text from outside on one line."""

from __future__ import annotations

import pytest

from triggerstream.core.printable import escape


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é ≥ 漢", "plain é ≥ 漢"),
        ("a\nb\tc", "a\\u000ab\\u0009c"),
        ("\x1b[31m", "\\u001b[31m"),
        ("\x7f\x9f", "\\u007f\\u009f"),
        ("\u202e\u2066", "\\u202e\\u2066"),
        ("\u2028\u200b\ufeff", "\\u2028\\u200b\\ufeff"),
        ("\udc80", "\\udc80"),
    ],
)
def test_characters_that_would_steer_a_reader_are_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown
