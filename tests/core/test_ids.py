"""Names and identities."""

from __future__ import annotations

import uuid

import pytest

from triggerstream.core.ids import (
    AppId,
    SessionId,
    TaskName,
    command_id,
    event_digest,
    instance_id,
    is_kafka_app,
    split_instance_id,
)


@pytest.mark.parametrize("name", ["a", "A-Z.a_z-09", "x" * 200])
def test_app_in_kafka_is_accepted(name: str) -> None:
    assert is_kafka_app(name)


@pytest.mark.parametrize("name", ["", "x" * 201, "a/b", "a b", "ä", "a\n"])
def test_app_that_kafka_cannot_name_is_refused(name: str) -> None:
    assert not is_kafka_app(name)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("t#0", ("t", 0)),
        ("t#10", ("t", 10)),
        ("a#b#7", ("a#b", 7)),
        ("t#" + "9" * 18, ("t", 10**18 - 1)),
        ("t#1" + "0" * 18, ("t", -1)),
        ("t#" + "9" * 10_000, ("t", -1)),
        ("t", None),
        ("0", None),
        ("#0", None),
        ("t#", None),
        ("t#x", None),
        ("t#-1", None),
        ("t#²", None),
        ("t#٣", None),
        ("t#00", None),
        ("t#01", None),
    ],
)
def test_instance_id_is_split_at_its_last_hash(text: str, parts: tuple[str, int] | None) -> None:
    assert split_instance_id(text) == parts


def test_instance_id_has_task_and_number() -> None:
    assert instance_id(TaskName("a#b"), 7) == "a#b#7"


def test_command_id_is_the_uuid_of_the_parts_with_their_lengths() -> None:
    found = command_id(AppId("shop"), SessionId("s-1"), generation=2, task=TaskName("mail"), number=3)
    namespace = uuid.UUID("6f0d7a1c-3f0e-5c0b-9d5e-7a1f3f6b2c11")
    assert found == str(uuid.uuid5(namespace, "4:shop3:s-12:4:mail3"))


def test_digest_of_an_event_is_stable_and_depends_on_both_parts() -> None:
    assert event_digest(None, "e-1").hex() == "1b3713e6ec8e8b6b"
    assert event_digest("shop", "e-1").hex() == "85a56dbf76fabc26"
    assert event_digest("", "e-1") == event_digest(None, "e-1")
    assert event_digest("a", "bc") != event_digest("ab", "c")
