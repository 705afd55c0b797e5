from __future__ import annotations

import hmac
import re
from hashlib import sha256

import pytest
from hypothesis import given
from msgspec.structs import replace

from tests.wire.values import bodies
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import (
    Body,
    Cancel,
    Close,
    ConfigApplied,
    Erase,
    Event,
    Finished,
    Replay,
    Resend,
    Skip,
    Timer,
    Trigger,
)
from triggerstream.core.ids import AppId, CommandId, InstanceId, TriggerName
from triggerstream.wire import events
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.events import ORIGIN_HEADER, rehomed_headers
from triggerstream.wire.records import Headers, NewRecord, Record
from triggerstream.wire.signature import GRACE_US, SIGNATURE_HEADER, ControlKey, ControlKeys, read_keys

APP = AppId("app")
SINCE = 1_000_000_000_000
LATER = SINCE + 10 * GRACE_US
ONE = ControlKeys((ControlKey(since_us=SINCE, secret=b"1" * 32),))
TWO = ControlKeys((*ONE.keys, ControlKey(since_us=LATER, secret=b"2" * 32)))
OTHER = ControlKeys((ControlKey(since_us=SINCE, secret=b"3" * 32),))
T0 = InstanceId("t#0")
ERASE = Erase(generation=0)
CONFIG = ConfigApplied(text="{}", hash=text_hash("{}"), replaces=None, fold=1, number=1)


def new(body: Body | ConfigApplied = ERASE, key: bytes | None = b"s", headers: Headers = ()) -> NewRecord:
    return NewRecord(key=key, value=events.encode(body), headers=headers)


def record(made: NewRecord, *, arrival_us: int = SINCE) -> Record:
    return Record(
        partition=0, offset=0, arrival_us=arrival_us, key=made.key, value=made.value, headers=made.headers
    )


def check(keys: ControlKeys, found: Record, *, app: AppId = APP) -> Event | ConfigApplied:
    return keys.authenticate(app, found, events.decode(found))


def by_hand(made: NewRecord) -> NewRecord:
    """``made``, signed by a program that is not ours."""
    key = b"-:" if made.key is None else b"%d:%s" % (len(made.key), made.key)
    message = b"3:ts23:app%s%d:%s-:" % (key, len(made.value), made.value)
    digest = hmac.new(b"1" * 32, message, sha256).hexdigest()
    return replace(made, headers=(*made.headers, (SIGNATURE_HEADER, digest.encode())))


def signed(made: NewRecord, *, keys: ControlKeys = ONE, now_us: int = SINCE) -> NewRecord:
    return keys.signed(APP, made, now_us=now_us)


@pytest.mark.laws
@given(bodies())
def test_what_is_signed_is_taken_and_what_is_not_is_refused_but_for_triggers(body: Body) -> None:
    plain = new(body)
    if isinstance(body, Trigger):
        assert signed(plain) == plain
        check(ONE, record(plain))
        return
    with pytest.raises(DecodeError, match=f"{SIGNATURE_HEADER}: is missing"):
        check(ONE, record(plain))
    lacks_attempt = isinstance(body, Resend) and body.attempt is None
    if getattr(body, "generation", 0) is None or lacks_attempt:
        with pytest.raises(DecodeError, match=r"^/data/(generation|attempt): is missing"):
            signed(plain)
    else:
        assert check(ONE, record(signed(plain))) == events.decode(record(plain))


def test_a_configuration_is_signed_too() -> None:
    check(ONE, record(signed(new(CONFIG, key=None))))
    with pytest.raises(DecodeError, match="is missing"):
        check(ONE, record(new(CONFIG, key=None)))


def test_the_signature_is_an_hmac_of_five_fields_each_with_its_length() -> None:
    """The form that schemas/README.md publishes for other languages."""
    origin = b"2:7:1000"
    for key, shown in ((b"s", b"1:s"), (b"", b"0:"), (None, b"-:")):
        for headers, last in (((), b"-:"), (((ORIGIN_HEADER, origin),), b"8:2:7:1000")):
            made = signed(new(Timer(), key=key, headers=headers))
            message = b"3:ts23:app%s%d:%s%s" % (shown, len(made.value), made.value, last)
            digest = hmac.new(b"1" * 32, message, sha256).hexdigest()
            assert made.headers == (*headers, (SIGNATURE_HEADER, digest.encode()))


@pytest.mark.parametrize(
    "changed",
    [
        {"key": b"t"},
        {"value": events.encode(Erase(generation=0, reason="another"))},
        {"headers": ((SIGNATURE_HEADER, b"0" * 64),)},
        {"headers": ((SIGNATURE_HEADER, "é".encode()),)},
        {"headers": ((SIGNATURE_HEADER, b""),)},
    ],
)
def test_a_signature_is_of_one_key_and_value(changed: dict[str, object]) -> None:
    with pytest.raises(DecodeError, match="was not made with a current control key"):
        check(ONE, record(replace(signed(new()), **changed)))


def test_an_empty_key_is_not_the_same_as_none() -> None:
    value = b'{"type":"triggerstream.session.erase","session":"s","data":{"generation":0}}'
    made = signed(NewRecord(key=None, value=value))
    check(ONE, record(made))
    event = events.decode(record(made))
    with pytest.raises(DecodeError, match="was not made"):
        ONE.authenticate(APP, record(replace(made, key=b"")), event)


def test_a_signature_header_without_value_is_none() -> None:
    found = replace(record(new()), headers=((SIGNATURE_HEADER, None),))
    with pytest.raises(DecodeError, match=f"{SIGNATURE_HEADER}: is missing"):
        check(ONE, found)


@pytest.mark.parametrize(
    "headers",
    [
        (("ce_type", b"triggerstream.session.erase"), ("ce_session", b"victim")),
        (("ce_type", b"triggerstream.session.erase"), ("ce_subject", b"victim")),
        (("ce_id", b"1"),),
        (("CE_TYPE", b"triggerstream.session.erase"),),
        (("Ce_session", b"victim"),),
    ],
)
def test_a_captured_configuration_is_no_order_by_its_headers(headers: Headers) -> None:
    """Headers that name another event beside a value that is signed."""
    captured = signed(new(CONFIG, key=None))
    with pytest.raises(DecodeError, match=r"^header (?i:ce_)\w+: with a control key.*no `ce_` headers"):
        check(ONE, record(replace(captured, headers=(*captured.headers, *headers))))


def test_a_trigger_in_binary_form_is_taken_all_the_same() -> None:
    found = record(NewRecord(key=b"s", value=b"{}", headers=(("ce_type", b"a"),)))
    assert check(ONE, found) == events.decode(found)


def test_trace_context_counts_where_it_is_signed() -> None:
    forged = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    plain, own = signed(new()), signed(NewRecord(key=b"s", value=events.encode(ERASE, traceparent="own")))
    for made, wanted in ((plain, None), (own, "own")):
        found = check(ONE, record(replace(made, headers=(forged, *made.headers))))
        assert isinstance(found, Event)
        assert found.traceparent == wanted
    trigger = record(new(Trigger(name=TriggerName("a"), data={}), headers=(forged,)))
    event = check(ONE, trigger)
    assert isinstance(event, Event)
    assert event.traceparent == forged[1].decode()


@pytest.mark.parametrize(
    ("body", "key", "place"),
    [
        (Erase(), b"s", "generation"),
        (Close(), b"s", "generation"),
        (Skip(instance=T0), b"s", "generation"),
        (Replay(instance=T0), b"s", "generation"),
        (Cancel(instance=T0), b"s", "generation"),
        (Resend(instance=T0, attempt=0), b"s", "generation"),
        (Resend(instance=T0, generation=0), b"s", "attempt"),
        (replace(CONFIG, number=None), None, "number"),
    ],
)
def test_with_a_key_an_order_says_what_it_was_given_for(
    body: Body | ConfigApplied, key: bytes | None, place: str
) -> None:
    """Else whoever reads the log could append it once more, and it would apply once more."""
    with pytest.raises(DecodeError, match=rf"^/data/{place}: is missing: with a control key"):
        check(ONE, record(by_hand(new(body, key))))
    with pytest.raises(DecodeError, match=rf"^/data/{place}: is missing: with a control key"):
        signed(new(body, key))
    check(ONE, record(new(body, key), arrival_us=SINCE - 1))


def test_a_signature_is_of_one_app_and_by_one_key() -> None:
    made = record(signed(new()))
    with pytest.raises(DecodeError, match="was not made"):
        check(ONE, made, app=AppId("other"))
    with pytest.raises(DecodeError, match="was not made"):
        check(OTHER, made)


def test_what_the_log_took_before_the_first_key_needs_no_signature() -> None:
    check(ONE, record(new(), arrival_us=SINCE - 1))


def test_keys_are_exchanged_with_an_hour_for_clocks_that_differ() -> None:
    old, early = signed(new(), keys=TWO, now_us=LATER - 1), signed(new(), keys=TWO, now_us=LATER)
    assert old != early
    check(TWO, record(early, arrival_us=LATER - 5))
    check(TWO, record(old, arrival_us=LATER + GRACE_US - 1))
    with pytest.raises(DecodeError, match="with a current control key"):
        check(TWO, record(old, arrival_us=LATER + GRACE_US))


def test_who_has_the_file_early_signs_with_the_first_key() -> None:
    check(ONE, record(signed(new(), now_us=0)))


def test_what_stands_for_another_record_is_signed_anew() -> None:
    """Whoever appends it has checked the signature of the other one; the origin is part of the new one."""
    honest = record(signed(new(), keys=TWO))
    moved = NewRecord(key=honest.key, value=honest.value or b"", headers=rehomed_headers(honest))
    with pytest.raises(DecodeError, match="was not made"):
        check(TWO, record(moved))
    again = signed(moved, keys=TWO, now_us=LATER + GRACE_US)
    assert [name for name, _ in again.headers] == [ORIGIN_HEADER, SIGNATURE_HEADER]
    check(TWO, record(again, arrival_us=LATER + GRACE_US))
    for origin in (b"0:1:1000000000000", b"0:0:1000000000001"):
        elsewhere = replace(again, headers=((ORIGIN_HEADER, origin), again.headers[1]))
        with pytest.raises(DecodeError, match="was not made"):
            check(TWO, record(elsewhere, arrival_us=LATER + GRACE_US))
    with pytest.raises(DecodeError, match="was not made"):
        check(TWO, record(replace(again, headers=again.headers[1:]), arrival_us=LATER))


def test_an_old_order_that_is_moved_ends_no_worker() -> None:
    """The log took it before the first key, when orders said nothing; it becomes a dead letter once moved."""
    moved = signed(new(Close(), headers=((ORIGIN_HEADER, b"0:0:1"),)))
    with pytest.raises(DecodeError, match=r"^/data/generation: is missing"):
        check(ONE, record(moved))


def test_what_another_language_wrote_is_signed_anew_too_once_it_is_moved() -> None:
    value = b' {"data": {"instance": "t#0", "command": "c"}, "type": "triggerstream.task.finished"}'
    origin = ((ORIGIN_HEADER, b"0:0:1"),)
    assert signed(NewRecord(key=b"s", value=value)).headers == ()
    found = record(signed(NewRecord(key=b"s", value=value, headers=origin)))
    event = check(ONE, found)
    assert isinstance(event, Event)
    assert event.body == Finished(instance=T0, command=CommandId("c"))
    for other in (b"[]", b"{", b'{"type":1}', b'{"type":"a"}'):
        plain = NewRecord(key=b"s", value=other, headers=origin)
        assert signed(plain) == plain


def test_a_trigger_may_look_like_anything() -> None:
    trigger = new(Trigger(name=TriggerName("a"), data={"type": "triggerstream.config"}))
    assert signed(trigger) == trigger
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
