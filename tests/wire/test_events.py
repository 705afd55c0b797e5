from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.values import INT64, NAME, TEXT, bodies, headers, keys
from triggerstream.core.errors import DecodeError
from triggerstream.core.events import (
    Body,
    ConfigApplied,
    Event,
    Finished,
    Replay,
    Retried,
    Skip,
    Started,
    Trigger,
)
from triggerstream.core.ids import CommandId, InstanceId, SessionId, TriggerName, split_instance_id
from triggerstream.wire.bounds import CONFIG_BYTES, EVENT_BYTES
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.events import (
    ORIGIN_HEADER,
    check_session,
    check_trigger_name,
    decode,
    encode,
    rehomed_headers,
)
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.records import Headers, Record

ARRIVAL_US = 1_700_000_000_000_000
NOON = "2026-03-01T12:00:00Z"


def record(
    value: bytes | None, *, key: bytes | None = b"42", headers: Headers = (), offset: int = 7
) -> Record:
    return Record(partition=3, offset=offset, arrival_us=ARRIVAL_US, key=key, value=value, headers=headers)


def event_of(fields: object, *, key: bytes | None = b"42", headers: Headers = ()) -> Event:
    """What a record with this JSON is read as, where it is an event of a session."""
    event = decode(record(json.dumps(fields).encode(), key=key, headers=headers))
    assert isinstance(event, Event)
    return event


def binary(value: bytes | None, *, key: bytes | None = b"42", **attributes: str) -> Event:
    """What a CloudEvent in binary mode is read as."""
    named = tuple((f"ce_{name}", text.encode()) for name, text in attributes.items())
    event = decode(record(value, key=key, headers=named))
    assert isinstance(event, Event)
    return event


def config_value(text: str = "{}", **fields: object) -> bytes:
    data = {"text": text, "hash": text_hash(text), "replaces": None, "fold": 1}
    return json.dumps({"type": "triggerstream.config", "data": data} | fields).encode()


# ---- laws ---------------------------------------------------------------------------------------


@pytest.mark.laws
@given(
    bodies(),
    st.none() | NAME,
    st.none() | TEXT,
    st.none() | st.integers(min_value=-62_135_596_800_000_000, max_value=253_402_300_799_999_999),
    st.none() | TEXT,
)
def test_an_event_comes_back_from_bytes(
    body: Body, event_id: str | None, source: str | None, time_us: int | None, traceparent: str | None
) -> None:
    value = encode(body, id=event_id, source=source, time_us=time_us, traceparent=traceparent)
    event = decode(record(value))
    assert isinstance(event, Event)
    assert event.body == body
    assert (event.session, event.offset, event.arrival_us) == ("42", 7, ARRIVAL_US)
    assert (event.id, event.source, event.traceparent) == (event_id, source, traceparent)
    assert event.time_us == (ARRIVAL_US if time_us is None else time_us)


@pytest.mark.laws
@given(TEXT, st.none() | NAME, st.integers(1, 2**63 - 1), st.none() | st.integers(1, 2**63 - 1))
def test_a_configuration_comes_back_from_bytes(
    text: str, replaces: str | None, fold: int, number: int | None
) -> None:
    if not text:
        return
    fields: dict[str, Any] = {"text": text, "hash": text_hash(text), "replaces": replaces, "fold": fold}
    fields["number"] = number
    config = ConfigApplied(**fields)
    assert decode(record(encode(config), key=None)) == config


PIECES = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"1", b"true", b"{}"),
    *(b'"type"', b'"data"', b'"id"', b'"time"', b'"session"', b'"a"', b'"triggerstream.timer"'),
)


@pytest.mark.laws
@given(
    st.none() | st.binary() | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    keys(),
    headers(),
    st.integers(min_value=0, max_value=2**63 - 1),
    INT64,
)
def test_any_record_is_an_event_or_a_decode_error(
    value: bytes | None, key: bytes | None, named: Headers, offset: int, arrival_us: int
) -> None:
    with suppress(DecodeError):
        decode(Record(partition=0, offset=offset, arrival_us=arrival_us, key=key, value=value, headers=named))


# ---- the plain event ----------------------------------------------------------------------------


def test_a_type_is_all_that_an_event_needs() -> None:
    assert event_of({"type": "module1Received"}) == Event(
        session=SessionId("42"),
        offset=7,
        arrival_us=ARRIVAL_US,
        time_us=ARRIVAL_US,
        type="module1Received",
        body=Trigger(name=TriggerName("module1Received"), data={}),
    )


@pytest.mark.parametrize("data", [{}, None])
def test_absent_null_and_empty_data_are_the_same(data: object) -> None:
    assert event_of({"type": "a", "data": data}) == event_of({"type": "a"})


@pytest.mark.parametrize("data", [[], "text", 1, 0, True, False, ""])
def test_data_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(DecodeError, match="/data: must be an object, is "):
        event_of({"type": "a", "data": data})


def test_data_in_base64_is_refused() -> None:
    with pytest.raises(DecodeError, match="/data_base64: must be `data`, a JSON object"):
        event_of({"type": "a", "data_base64": "e30="})


@pytest.mark.parametrize("kind", [None, "", 1, ["a"], {}])
def test_a_type_is_a_non_empty_string(kind: object) -> None:
    with pytest.raises(DecodeError, match="/type: must be a non-empty string"):
        event_of({"type": kind})


@pytest.mark.parametrize("value", [[], "a", 1, None])
def test_an_event_is_an_object(value: object) -> None:
    with pytest.raises(DecodeError, match="must be a JSON object with a `type`, is "):
        event_of(value)


def test_a_record_without_value_is_no_event() -> None:
    with pytest.raises(DecodeError, match="no value: an event is a JSON object"):
        decode(record(None))


@pytest.mark.parametrize("name", ["id", "source", "traceparent"])
@pytest.mark.parametrize("value", [1, True, [], {}])
def test_attributes_are_strings(name: str, value: object) -> None:
    assert event_of({"type": "a", name: None}) == event_of({"type": "a"})
    with pytest.raises(DecodeError, match=f"/{name}: must be a string"):
        event_of({"type": "a", name: value})


def test_an_id_is_not_empty() -> None:
    with pytest.raises(DecodeError, match="/id: must be a non-empty string, or left out"):
        event_of({"type": "a", "id": ""})


def test_time_is_when_it_happened() -> None:
    event = event_of({"type": "a", "time": NOON})
    assert (event.time_us, event.arrival_us) == (parse_instant(NOON), ARRIVAL_US)
    assert event_of({"type": "a", "time": None}).time_us == ARRIVAL_US


@pytest.mark.parametrize("time", ["", "yesterday", "2026-03-01", "2026-03-01T12:00:00", 1, True])
def test_a_time_without_zone_is_refused(time: object) -> None:
    with pytest.raises(DecodeError, match="/time: must be"):
        event_of({"type": "a", "time": time})


def test_an_event_has_at_most_256_kib() -> None:
    frame = len(b'{"type":"a","data":{"k":""}}')
    value = b'{"type":"a","data":{"k":"%s"}}'
    decode(record(value % (b"x" * (EVENT_BYTES - frame))))
    with pytest.raises(DecodeError, match="262,145 bytes: an event has at most 262,144"):
        decode(record(value % (b"x" * (EVENT_BYTES - frame + 1))))


# ---- CloudEvents --------------------------------------------------------------------------------


def test_a_structured_cloudevent_is_taken_as_it_is() -> None:
    event = event_of(
        {
            "specversion": "1.0",
            "type": "module1Received",
            "source": "/survey/web",
            "id": "A234",
            "time": NOON,
            "subject": "42",
            "datacontenttype": "application/json",
            "dataschema": "https://example.com/schema",
            "partitionkey": "x",
            "data": {"score": 3},
        }
    )
    assert event.body == Trigger(name=TriggerName("module1Received"), data={"score": 3})
    assert (event.source, event.id, event.time_us) == ("/survey/web", "A234", parse_instant(NOON))


@pytest.mark.parametrize("version", ["0.3", "1", 1.0, None])
def test_another_version_of_cloudevents_is_refused(version: object) -> None:
    with pytest.raises(DecodeError, match=r'/specversion: must be "1\.0"'):
        event_of({"type": "a", "specversion": version})


def test_a_binary_cloudevent_has_its_attributes_in_headers() -> None:
    event = binary(
        b'{"score": 3}', specversion="1.0", type="module1Received", source="/survey/web", id="A234", time=NOON
    )
    assert event.body == Trigger(name=TriggerName("module1Received"), data={"score": 3})
    assert (event.source, event.id, event.time_us) == ("/survey/web", "A234", parse_instant(NOON))


@pytest.mark.parametrize("value", [None, b"", b"{}", b"null"])
def test_a_binary_cloudevent_may_have_no_data(value: bytes | None) -> None:
    assert binary(value, type="a").body == Trigger(name=TriggerName("a"), data={})


@pytest.mark.parametrize("value", [b"[]", b"1", b'"x"', b"false", b"not JSON"])
def test_a_binary_cloudevent_with_other_data_is_refused(value: bytes) -> None:
    with pytest.raises(DecodeError):
        binary(value, type="a")


def test_a_binary_cloudevent_may_be_the_engine_s_own() -> None:
    body = binary(b'{"instance":"t#0","command":"c"}', type="triggerstream.task.started").body
    assert isinstance(body, Started)


def test_a_header_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(DecodeError, match="header ce_id: must be UTF-8"):
        decode(record(b"{}", headers=(("ce_type", b"a"), ("ce_id", b"\xff"))))


def test_a_header_without_value_is_left_out() -> None:
    """Kafka allows one; what reads records hands it on as it is."""
    null = cast("bytes", None)
    for name in ("ce_id", "ce_time", "traceparent", ORIGIN_HEADER, "other"):
        event = decode(record(b"{}", headers=(("ce_type", b"a"), (name, null))))
        assert event == binary(b"{}", type="a")
    with pytest.raises(DecodeError, match="/type: must be a non-empty string, is missing"):
        decode(record(b"{}", headers=(("ce_type", null),)))


def test_headers_of_a_binary_cloudevent_count_as_bytes_of_the_event() -> None:
    binary(b"{}", type="a", id="x" * 1_000)
    with pytest.raises(DecodeError, match="an event has at most 262,144"):
        binary(b"{}", type="a", id="x" * EVENT_BYTES)
    with pytest.raises(DecodeError, match="an event has at most 262,144"):
        binary(b'{"k":"%s"}' % (b"x" * (EVENT_BYTES // 2)), type="a", source="x" * (EVENT_BYTES // 2))


STRUCTURED = [
    "application/cloudevents",
    "application/cloudevents+json",
    "application/cloudevents+json; charset=UTF-8",
    "Application/CloudEvents+JSON;charset=utf-8",
]


@pytest.mark.parametrize("content_type", STRUCTURED)
def test_a_content_type_of_cloudevents_is_structured_mode_whatever_headers_stand_beside_it(
    content_type: str,
) -> None:
    headers: Headers = (
        ("ce_type", b"other"),
        ("ce_id", b"\xff"),
        ("ce_source", b"x" * EVENT_BYTES),
        ("content-type", content_type.encode()),
    )
    event = event_of({"type": "a", "id": "1", "data": {"score": 3}}, headers=headers)
    assert event.body == Trigger(name=TriggerName("a"), data={"score": 3})
    assert (event.id, event.source) == ("1", None)
    moved = rehomed_headers(record(b"{}", headers=headers))
    assert [name for name, _ in moved] == ["content-type", ORIGIN_HEADER]
    there = event_of({"type": "a", "id": "1", "data": {"score": 3}}, headers=moved)
    assert (there.type, there.id, there.body) == (event.type, event.id, event.body)


@pytest.mark.parametrize("content_type", ["application/json", "", "text/plain", "application/cloud"])
def test_another_content_type_leaves_binary_mode_as_it_is(content_type: str) -> None:
    headers: Headers = (("content-type", content_type.encode()), ("ce_type", b"a"))
    assert decode(record(b'{"score": 3}', headers=headers)) == binary(b'{"score": 3}', type="a")


@pytest.mark.parametrize("form", ["+avro", "-batch+json", "+xml; charset=UTF-8"])
def test_a_cloudevent_in_another_form_than_json_says_so(form: str) -> None:
    headers: Headers = (("content-type", f"application/cloudevents{form}".encode()), ("ce_type", b"a"))
    with pytest.raises(DecodeError, match=r"header content-type: must be application/cloudevents\+json, is"):
        decode(record(b"{}", headers=headers))


def test_trace_context_may_be_a_header_or_an_attribute() -> None:
    header: Headers = (("traceparent", b"00-header"),)
    assert event_of({"type": "a"}, headers=header).traceparent == "00-header"
    assert event_of({"type": "a", "traceparent": "00-own"}, headers=header).traceparent == "00-own"
    # No trace, which would go along with each command and outcome; the event counts all the same.
    long = "0" * 513
    assert event_of({"type": "a", "traceparent": long}).traceparent is None
    assert event_of({"type": "a"}, headers=(("traceparent", long.encode()),)).traceparent is None
    with pytest.raises(DecodeError, match="header traceparent: must be UTF-8"):
        event_of({"type": "a"}, headers=(("traceparent", b"\xff"),))


# ---- the session --------------------------------------------------------------------------------


def test_the_key_is_the_session() -> None:
    assert event_of({"type": "a"}, key="Ünïcode".encode()).session == "Ünïcode"
    assert event_of({"type": "a", "session": "42"}).session == "42"


def test_key_and_session_must_be_equal() -> None:
    with pytest.raises(DecodeError, match="/session: must equal the key `42`, is `43`"):
        event_of({"type": "a", "session": "43"})


def test_a_subject_need_not_be_the_key() -> None:
    assert event_of({"type": "a", "subject": "chapter 3"}).session == "42"


def test_without_key_session_or_subject_says_it() -> None:
    assert event_of({"type": "a", "session": "43", "subject": "44"}, key=None).session == "43"
    assert event_of({"type": "a", "subject": "44"}, key=None).session == "44"
    with pytest.raises(DecodeError, match="no key, and no `session`"):
        event_of({"type": "a"}, key=None)


@pytest.mark.parametrize("key", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"", b"\x00a", b"x" * 1025])
def test_a_key_that_is_no_session_is_refused(key: bytes) -> None:
    with pytest.raises(DecodeError):
        event_of({"type": "a"}, key=key)


@pytest.mark.parametrize("session", ["\x00a", "x" * 1025, "é" * 513, 1, "", []])
@pytest.mark.parametrize("key", [None, b"42"])
def test_a_session_that_is_no_key_is_refused(session: object, key: bytes | None) -> None:
    with pytest.raises(DecodeError):
        event_of({"type": "a", "session": session}, key=key)


@pytest.mark.parametrize("subject", [1, [], True])
@pytest.mark.parametrize("key", [None, b"42"])
def test_a_subject_is_a_string_with_a_key_too(subject: object, key: bytes | None) -> None:
    with pytest.raises(DecodeError, match="/subject: must be a string"):
        event_of({"type": "a", "subject": subject}, key=key)


def test_a_session_of_1024_bytes_is_the_longest() -> None:
    assert check_session("é" * 512) == "é".encode() * 512
    with pytest.raises(DecodeError, match="a session id of 1,025 bytes"):
        check_session("x" * 1025)
    with pytest.raises(DecodeError, match="must be valid Unicode"):
        check_session("\ud800")


def test_an_application_fires_no_name_of_the_engine() -> None:
    assert check_trigger_name("triggerstream") == "triggerstream"
    for name in ("", "triggerstream.", "triggerstream.timer", "triggerstream.mine"):
        with pytest.raises(DecodeError, match="is no trigger"):
            check_trigger_name(name)


# ---- the engine's own events --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["triggerstream.", "triggerstream.task", "triggerstream.task.done"])
def test_an_unknown_type_of_the_engine_is_refused(kind: str) -> None:
    with pytest.raises(DecodeError, match="is none of the engine's own types"):
        event_of({"type": kind})


@pytest.mark.parametrize("instance", ["t", "#1", "t#", "t#01", "t#-1", "t#1 ", "t#١", "", 1, None])
def test_an_instance_is_a_task_and_a_number(instance: object) -> None:
    with pytest.raises(DecodeError, match="/data/instance: must be"):
        event_of({"type": "triggerstream.instance.cancel", "data": {"instance": instance}})


def test_a_task_s_name_may_hold_the_mark() -> None:
    body = event_of({"type": "triggerstream.instance.skip", "data": {"instance": "a#1#2"}}).body
    assert body == Skip(instance=InstanceId("a#1#2"))


def test_results_and_kwargs_that_are_none_are_written_for_other_programs() -> None:
    instance, command = InstanceId("t#0"), CommandId("c")
    bodies: dict[Body | ConfigApplied, set[str]] = {
        Finished(instance=instance, command=command): {"instance", "command", "result"},
        Retried(instance=instance, command=command): {"instance", "command", "kwargs", "after"},
        Skip(instance=instance): {"instance", "cascade", "result"},
        Replay(instance=instance): {"instance", "kwargs", "force"},
        Started(instance=instance, command=command): {"instance", "command"},
    }
    for body, fields in bodies.items():
        assert json.loads(encode(body))["data"].keys() == fields
    config = ConfigApplied(text="{}", hash=text_hash("{}"), replaces=None, fold=1)
    assert json.loads(encode(config))["data"].keys() == {"text", "hash", "replaces", "fold"}


@pytest.mark.parametrize("name", ["type", "odd"])
def test_unknown_fields_are_ignored(name: str) -> None:
    data = {"instance": "t#0", "command": "c", name: "triggerstream.timer"}
    body = event_of({"type": "triggerstream.task.started", "data": data}).body
    assert body == Started(instance=InstanceId("t#0"), command=CommandId("c"))


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("instance.cancel", {"instance": "t"}, "/data/instance: must be task#number, is `t`"),
        ("instance.cancel", {"instance": 1}, "/data/instance: must be task#number, is a number"),
        ("instance.cancel", {}, "/data/instance: must be task#number, is missing"),
        (
            "task.started",
            {"instance": "t#0", "command": None},
            "/data/command: must be a non-empty string, is null",
        ),
        (
            "session.close",
            {"generation": -1},
            "/data/generation: must be an integer of at least 0, is a number",
        ),
        (
            "session.close",
            {"generation": True},
            "/data/generation: must be an integer of at least 0, is true",
        ),
        (
            "session.close",
            {"generation": 1.0},
            "/data/generation: must be an integer of at least 0, is a number",
        ),
        (
            "instance.skip",
            {"instance": "t#0", "cascade": "yes"},
            "/data/cascade: must be true or false, is a string",
        ),
        (
            "task.skipped",
            {"instance": "t#0", "command": "c", "metadata": []},
            "/data/metadata: must be an object, is an array",
        ),
    ],
)
def test_a_refusal_names_the_field_and_what_it_must_be(kind: str, data: object, says: str) -> None:
    with pytest.raises(DecodeError) as refused:
        event_of({"type": f"triggerstream.{kind}", "data": data})
    assert str(refused.value) == says


def test_a_reason_of_a_failure_is_one_of_those_that_are_known() -> None:
    data = {"instance": "t#0", "command": "c", "reason": "bad luck"}
    with pytest.raises(
        DecodeError, match=r"/data/reason: must be one of `not dispatchable`, .*, is `bad luck`"
    ):
        event_of({"type": "triggerstream.task.failed", "data": data})


@given(st.text(alphabet="a#01٣\n", max_size=6) | st.text())
def test_an_instance_is_read_where_it_can_be_split(text: str) -> None:
    value = json.dumps({"type": "triggerstream.instance.cancel", "data": {"instance": text}}).encode()
    try:
        found = decode(record(value))
    except DecodeError:
        found = None
    assert (found is not None) is (split_instance_id(text) is not None)


def test_a_result_may_be_any_value() -> None:
    for result in (None, False, 0, "", [1], {"a": 1}):
        data = {"instance": "t#0", "command": "c", "result": result}
        body = event_of({"type": "triggerstream.task.finished", "data": data}).body
        assert isinstance(body, Finished)
        assert body.result == result


@pytest.mark.parametrize(
    ("after", "micros"),
    [(None, 0), (0, 0), (1.5, 1_500_000), (1e-6, 1), (3_162_240_000, 3_162_240_000_000_000)],
)
def test_a_wait_is_in_seconds(after: float | None, micros: int) -> None:
    data = {"instance": "t#0", "command": "c", "after": after}
    body = event_of({"type": "triggerstream.task.retried", "data": data}).body
    assert isinstance(body, Retried)
    assert body.after_us == micros


@pytest.mark.parametrize("after", [-1, 3_162_240_000.1, 1e300, True, "5s", []])
def test_a_wait_is_at_most_a_hundred_years(after: object) -> None:
    data = {"instance": "t#0", "command": "c", "after": after}
    with pytest.raises(DecodeError, match="/data/after: must be a number of seconds from 0 to 3,162,240,000"):
        event_of({"type": "triggerstream.task.retried", "data": data})


@pytest.mark.parametrize(
    ("field", "value"),
    [("kwargs", []), ("force", "yes"), ("force", 1), ("reason", 1), ("by", {}), ("instance", None)],
)
def test_a_field_of_another_type_is_refused_by_name(field: str, value: object) -> None:
    data = {"instance": "t#0", "kwargs": {"a": {}}, "force": True, "reason": "why", "by": "ann"}
    body = event_of({"type": "triggerstream.instance.replay", "data": data}).body
    assert isinstance(body, Replay)
    assert body.force
    with pytest.raises(DecodeError, match=f"/data/{field}: must be"):
        event_of({"type": "triggerstream.instance.replay", "data": data | {field: value}})


def test_a_configuration_belongs_to_no_session() -> None:
    assert isinstance(decode(record(config_value(), key=None)), ConfigApplied)
    with pytest.raises(DecodeError, match="a configuration has no key"):
        decode(record(config_value()))


def test_a_configuration_may_be_a_mebibyte() -> None:
    frame = len(config_value(""))
    decode(record(config_value(" " * (CONFIG_BYTES - frame)), key=None))
    with pytest.raises(DecodeError, match="1,048,577 bytes"):
        decode(record(config_value(" " * (CONFIG_BYTES - frame + 1)), key=None))
    with pytest.raises(DecodeError, match="an event has at most 262,144"):
        decode(record(b'{"type":"a","session":"42","data":{"k":"%s"}}' % (b"x" * EVENT_BYTES), key=None))


def test_a_configuration_s_hash_is_that_of_its_text() -> None:
    with pytest.raises(DecodeError, match="/data/hash: must be the SHA-256 of `text` in hex"):
        decode(record(config_value().replace(b'"{}"', b'"{ }"'), key=None))


@pytest.mark.parametrize(
    "fields", [{"id": 1}, {"id": ""}, {"source": 1}, {"time": "now"}, {"session": 1}, {"traceparent": []}]
)
def test_a_configuration_s_attributes_are_those_of_any_event(fields: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match=f"/{next(iter(fields))}: must be"):
        decode(record(config_value(**fields), key=None))


# ---- re-homed records ---------------------------------------------------------------------------


def test_a_rehomed_record_keeps_its_origin_s_identity_and_time() -> None:
    named = rehomed_headers(record(b'{"type":"a"}', key=None))
    assert named == ((ORIGIN_HEADER, b"3:7:1700000000000000"),)
    there = Record(
        partition=0, offset=99, arrival_us=ARRIVAL_US + 5, key=b"42", value=b'{"type":"a"}', headers=named
    )
    event = decode(there)
    assert isinstance(event, Event)
    assert (event.id, event.source) == (None, None)
    assert event.identity() == (ORIGIN_HEADER, "3:7")
    assert (event.time_us, event.arrival_us, event.offset) == (ARRIVAL_US, ARRIVAL_US + 5, 99)
    assert rehomed_headers(there) == named


def test_a_rehomed_record_shows_the_source_of_its_producer() -> None:
    event = event_of({"type": "a", "source": "/s"}, headers=((ORIGIN_HEADER, b"3:7:5"),))
    assert (event.id, event.source) == (None, "/s")
    assert event.identity() == (ORIGIN_HEADER, "3:7")


def test_a_rehomed_record_with_an_id_and_a_time_keeps_them() -> None:
    named: Headers = ((ORIGIN_HEADER, b"3:7:5"),)
    event = event_of({"type": "a", "id": "own", "source": "/s", "time": NOON}, headers=named)
    assert (event.id, event.source, event.time_us) == ("own", "/s", parse_instant(NOON))
    assert event.identity() == ("/s", "own")


@pytest.mark.parametrize("origin", [b"", b"3:7", b"3:7:x", b"3:7:-1", b"a:7:1", b"3:7:1:1", b"3:7:1\n"])
def test_an_origin_that_is_none_is_refused(origin: bytes) -> None:
    with pytest.raises(DecodeError, match="must be partition:offset:arrival"):
        event_of({"type": "a"}, headers=((ORIGIN_HEADER, origin),))


# ---- bytes of other clients ---------------------------------------------------------------------


def test_a_header_whose_name_is_not_utf8_is_no_attribute() -> None:
    odd: Headers = (("ce_type\\xff", b"b"), ("ce_\\xff", b"\xff"), ("\\xff", None))
    assert event_of({"type": "a"}, headers=odd) == event_of({"type": "a"})
    attributes: Headers = (("ce_type", b"a"), ("ce_\\xff", b"\xff"))
    assert decode(record(None, headers=attributes)) == decode(record(None, headers=attributes[:1]))
    long: Headers = (("ce_type", b"a"), ("ce_\\xff", b"x" * EVENT_BYTES))
    assert decode(record(None, headers=long)) == decode(record(None, headers=attributes[:1]))


def test_an_origin_without_value_is_none_and_is_told_anew() -> None:
    found = rehomed_headers(record(b"{}", headers=((ORIGIN_HEADER, None), ("x", None))))
    assert found[-1] == (ORIGIN_HEADER, f"3:7:{ARRIVAL_US}".encode())


def test_an_empty_key_counts_as_none_where_there_is_a_session() -> None:
    assert event_of({"type": "a", "subject": "44"}, key=b"").session == "44"
    assert event_of({"type": "a", "session": "43", "subject": "44"}, key=b"").session == "43"
    with pytest.raises(DecodeError, match="an empty key, and no `session`"):
        event_of({"type": "a"}, key=b"")


def test_a_byte_order_mark_before_an_event_is_skipped() -> None:
    mark = b"\xef\xbb\xbf"
    assert decode(record(mark + b'{"type": "a"}')) == event_of({"type": "a"})
    assert binary(mark + b'{"x": 1}', type="a") == binary(b'{"x": 1}', type="a")
    with pytest.raises(DecodeError, match="not JSON"):
        decode(record(mark))


def test_a_rehomed_record_keeps_what_decides_of_headers_that_leave_no_room() -> None:
    own: Headers = (("ce_type", b"a"), ("traceparent", b"00-1"), ("triggerstream-signature", b"x"))
    for junk in (("\\xff" * 300_000, b""), ("h", b"x" * 1_000_000), ("traceparent", b"0" * 1_000_000)):
        record = Record(partition=1, offset=2, arrival_us=3, key=b"s", value=b"", headers=(junk, *own))
        assert rehomed_headers(record) == (*own, (ORIGIN_HEADER, b"1:2:3"))
    short: Headers = (("h", b"1"), *own)
    record = Record(partition=1, offset=2, arrival_us=3, key=b"s", value=b"", headers=short)
    assert rehomed_headers(record) == (*short, (ORIGIN_HEADER, b"1:2:3"))
