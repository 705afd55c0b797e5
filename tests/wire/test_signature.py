from __future__ import annotations

import re

import pytest
from hypothesis import given
from msgspec.structs import replace

from tests.wire.values import bodies
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import Body, ConfigApplied, Erase, Trigger
from triggerstream.core.ids import AppId, TriggerName
from triggerstream.wire import events
from triggerstream.wire.events import ORIGIN_HEADER, rehomed_headers
from triggerstream.wire.records import NewRecord, Record
from triggerstream.wire.signature import GRACE_US, SIGNATURE_HEADER, ControlKey, ControlKeys, read_keys

APP = AppId("app")
SINCE = 1_000_000_000_000
LATER = SINCE + 10 * GRACE_US
ONE = ControlKeys((ControlKey(since_us=SINCE, secret=b"1" * 32),))
TWO = ControlKeys((*ONE.keys, ControlKey(since_us=LATER, secret=b"2" * 32)))
OTHER = ControlKeys((ControlKey(since_us=SINCE, secret=b"3" * 32),))


def new(body: Body | ConfigApplied = Erase(), key: bytes | None = b"s") -> NewRecord:  # noqa: B008 - frozen
    return NewRecord(key=key, value=events.encode(body))


def record(made: NewRecord, *, arrival_us: int = SINCE) -> Record:
    return Record(
        partition=0, offset=0, arrival_us=arrival_us, key=made.key, value=made.value, headers=made.headers
    )


def check(keys: ControlKeys, found: Record, *, app: AppId = APP) -> None:
    keys.check(app, found, events.decode(found))


@pytest.mark.laws
@given(bodies())
def test_what_is_signed_is_taken_and_what_is_not_is_refused_but_for_triggers(body: Body) -> None:
    plain = new(body)
    signed = ONE.signed(APP, plain, now_us=SINCE)
    check(ONE, record(signed))
    if isinstance(body, Trigger):
        assert signed == plain
    else:
        with pytest.raises(DecodeError, match=f"{SIGNATURE_HEADER}: is missing"):
            check(ONE, record(plain))


def test_a_configuration_is_signed_too() -> None:
    text = "{}"
    body = ConfigApplied(text=text, hash=events.text_hash(text), replaces=None, fold=1)
    check(ONE, record(ONE.signed(APP, new(body, key=None), now_us=SINCE)))
    with pytest.raises(DecodeError, match="is missing"):
        check(ONE, record(new(body, key=None)))


@pytest.mark.parametrize(
    "changed",
    [
        {"key": b"t"},
        {"value": events.encode(Erase(reason="another"))},
        {"headers": ((SIGNATURE_HEADER, b"0" * 64),)},
        {"headers": ((SIGNATURE_HEADER, "é".encode()),)},
    ],
)
def test_a_signature_is_of_one_key_and_value(changed: dict[str, object]) -> None:
    signed = ONE.signed(APP, new(), now_us=SINCE)
    with pytest.raises(DecodeError, match="was not made with a control key"):
        check(ONE, record(replace(signed, **changed)))


def test_a_signature_is_of_one_app_and_by_one_key() -> None:
    signed = record(ONE.signed(APP, new(), now_us=SINCE))
    with pytest.raises(DecodeError, match="was not made"):
        check(ONE, signed, app=AppId("other"))
    with pytest.raises(DecodeError, match="was not made"):
        check(OTHER, signed)


def test_what_the_log_took_before_the_first_key_needs_no_signature() -> None:
    check(ONE, record(new(), arrival_us=SINCE - 1))


def test_keys_are_exchanged_with_an_hour_for_clocks_that_differ() -> None:
    old, early = TWO.signed(APP, new(), now_us=LATER - 1), TWO.signed(APP, new(), now_us=LATER)
    assert old != early
    check(TWO, record(early, arrival_us=LATER - 5))
    check(TWO, record(old, arrival_us=LATER + GRACE_US - 1))
    with pytest.raises(DecodeError, match="with a control key of now"):
        check(TWO, record(old, arrival_us=LATER + GRACE_US))


def test_who_has_the_file_early_signs_with_the_first_key() -> None:
    check(ONE, record(ONE.signed(APP, new(), now_us=0)))


def test_what_stands_for_another_record_is_not_signed_for_it() -> None:
    """Else whoever puts a forged event into the wrong partition would have it signed on the way."""
    forged = record(new())
    moved = NewRecord(key=forged.key, value=forged.value or b"", headers=rehomed_headers(forged))
    assert [name for name, _ in ONE.signed(APP, moved, now_us=SINCE).headers] == [ORIGIN_HEADER]
    honest = record(ONE.signed(APP, new(), now_us=SINCE))
    moved = NewRecord(key=honest.key, value=honest.value or b"", headers=rehomed_headers(honest))
    check(ONE, record(ONE.signed(APP, moved, now_us=SINCE)))


def test_a_trigger_may_look_like_anything() -> None:
    trigger = new(Trigger(name=TriggerName("a"), data={"type": "triggerstream.config"}))
    assert ONE.signed(APP, trigger, now_us=SINCE) == trigger
    check(ONE, record(trigger))


# ---- the file -----------------------------------------------------------------------------------


def test_a_file_has_a_key_in_each_line() -> None:
    first, second = "ab" * 32, "CD" * 40
    keys = read_keys(
        f"# of the app\n\n2026-11-25T12:00:00Z {first}  # first\n2026-12-01T00:00:00+01:00\t{second}\n"
    )
    assert [key.secret.hex() for key in keys.keys] == [first, second.lower()]
    assert [key.since_us for key in keys.keys] == [1_795_608_000_000_000, 1_796_079_600_000_000]
    assert "ab" * 32 not in repr(keys)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no key: write a line such as"),
        ("# nothing\n", "has no key"),
        ("ab" * 32, "line 1: must be an instant and a key in hex"),
        (f"\nsoon {'ab' * 32}", "line 2: must be an RFC 3339 instant"),
        ("2026-11-25T12:00:00Z secret", "line 1: a key is at least 32 bytes in hex: openssl rand -hex 32"),
        (f"2026-11-25T12:00:00Z {'ab' * 31}", "line 1: a key is at least 32 bytes"),
        (
            f"2026-11-25T12:00:00Z {'ab' * 32}\n2026-11-25T12:00:00Z {'cd' * 32}",
            "line 2: is not later than the key before it",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_by_line(text: str, says: str) -> None:
    with pytest.raises(DecodeError, match=re.escape(says)):
        read_keys(text)


def test_a_signature_without_value_is_none() -> None:
    found = replace(record(new()), headers=((SIGNATURE_HEADER, None),))
    with pytest.raises(DecodeError, match="is missing"):
        check(ONE, found)
