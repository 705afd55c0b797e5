"""A dead letter keeps what it was and says why."""

from __future__ import annotations

from hashlib import sha256

import pytest

from triggerstream.adapters.kafka.deadletters import (
    WHOLE_BYTES,
    StoredDeadLetter,
    dead_letter_record,
    read_dead_letter,
)
from triggerstream.core.errors import DecodeError
from triggerstream.engine.checkpoint import DeadLetter
from triggerstream.wire.records import Headers, NewRecord, Record


def _record(value: bytes | None, *, key: bytes | None = b"s", headers: Headers = ()) -> Record:
    return Record(
        partition=3, offset=17, arrival_us=1_750_000_000_000_000, key=key, value=value, headers=headers
    )


def _again(new: NewRecord) -> StoredDeadLetter:
    return read_dead_letter(new.value, key=new.key, headers=new.headers)


def test_a_record_comes_back_as_it_was() -> None:
    record = _record(b"\xff not JSON", headers=(("traceparent", b"00"), ("triggerstream-reason", b"theirs")))
    new = dead_letter_record(DeadLetter(record=record, reason="no JSON: é"), topic="app.events")
    assert _again(new) == StoredDeadLetter(topic="app.events", record=record, reason="no JSON: é")


def test_a_left_out_trigger_has_its_origins_place_and_a_number() -> None:
    record = _record(b'{"type": "t"}')
    new = dead_letter_record(DeadLetter(record=record, reason="full", left_out=3), topic="app.events")
    assert _again(new) == StoredDeadLetter(topic="app.events", record=record, reason="full", left_out=3)
    assert dict(new.headers)["triggerstream-place"] == b"app.events:3:17:1750000000000000:3"


def test_a_record_without_key_stays_without() -> None:
    record = _record(b"{}", key=None)
    assert _again(dead_letter_record(DeadLetter(record=record, reason="r"), topic="t")).record == record


@pytest.mark.parametrize("where", ["value", "key", "headers"])
def test_what_is_too_long_is_kept_as_its_head_and_hash(where: str) -> None:
    long = bytes(WHOLE_BYTES)
    record = _record(
        long if where == "value" else b"{}",
        key=long if where == "key" else b"s",
        headers=(("h", long),) if where == "headers" else (),
    )
    new = dead_letter_record(DeadLetter(record=record, reason="too long"), topic="t")
    size = len(new.key or b"") + len(new.value) + sum(len(n) + len(v or b"") for n, v in new.headers)
    assert size < 128 * 1024
    again = _again(new)
    assert record.value is not None
    assert again.cut == (len(record.value), sha256(record.value).hexdigest())
    assert again.record.value == record.value[: 64 * 1024]
    assert again.record.headers == ()


@pytest.mark.parametrize("headers", [(("", b""),) * 500_000, (("\u8a9e" * 360_000, b""),)])
def test_headers_count_as_the_bytes_that_they_take(headers: Headers) -> None:
    new = dead_letter_record(DeadLetter(record=_record(b"{", headers=headers), reason="r"), topic="t")
    assert len(new.headers) < 5


def test_a_record_of_somebody_else_is_refused() -> None:
    with pytest.raises(DecodeError, match="no dead letter"):
        read_dead_letter(b"{}", key=b"s", headers=(("traceparent", b"00"),))


def test_a_lost_range_comes_back_as_one() -> None:
    letter = DeadLetter(record=_record(None, key=None), reason="lost", last=29)
    again = _again(dead_letter_record(letter, topic="t"))
    assert (again.record.offset, again.last, again.record.headers) == (17, 29, ())


@pytest.mark.parametrize("value", [b"{}", bytes(WHOLE_BYTES)])
@pytest.mark.parametrize(
    "own",
    [
        (("triggerstream-lost", b"999999"),),
        (("triggerstream-cut", b"5:" + b"0" * 64),),
        (("triggerstream-own", None), ("triggerstream-lost", b"999999")),
        (("triggerstream-lost", b"999999"), ("triggerstream-cut", b"5:" + b"0" * 64)),
    ],
)
def test_headers_of_the_record_cannot_make_it_a_lost_range_or_a_cut_one(value: bytes, own: Headers) -> None:
    record = _record(value, headers=own)
    again = _again(dead_letter_record(DeadLetter(record=record, reason="r"), topic="t"))
    assert again.last is None
    if value == b"{}":
        assert again == StoredDeadLetter(topic="t", record=record, reason="r")
    else:
        assert again.cut == (len(value), sha256(value).hexdigest())


@pytest.mark.parametrize("name", ["triggerstream-reason", "triggerstream-place"])
def test_a_header_of_ours_without_value_is_none(name: str) -> None:
    new = dead_letter_record(DeadLetter(record=_record(b"{}"), reason="r"), topic="t")
    headers = tuple((one, None if one == name else value) for one, value in new.headers)
    if name == "triggerstream-place":
        with pytest.raises(DecodeError, match="no dead letter"):
            read_dead_letter(b"{}", key=b"s", headers=headers)
    else:
        assert read_dead_letter(b"{}", key=b"s", headers=headers).reason == ""
    odd: Headers = (*new.headers, ("triggerstream-cut", None), ("triggerstream-lost", None))
    assert read_dead_letter(b"{}", key=b"s", headers=odd).record.headers == odd[2:]
