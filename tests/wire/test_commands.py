from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.wire.values import decisions, deep
from triggerstream.core.commands import Cause, Command, Decision, Revoke
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import CommandId, ConfigHash, InstanceId, SessionId, TaskName, TriggerName
from triggerstream.core.tasks import LONGEST_US
from triggerstream.wire import commands
from triggerstream.wire.bounds import JSON_DEPTH
from triggerstream.wire.json import dumps

RUN: dict[str, Any] = {
    "kind": "run",
    "id": "5e0ff6a0-9d0b-5c34-8d9c-3a1e6c8f0f11",
    "session": "42",
    "task": "t_report",
    "instance": "t_report#0",
    "attempt": 0,
    "retries": 0,
    "run": "my_app.tasks.Report",
    "kwargs": {"module1Received": {"score": 3}},
    "config": "9f86d081",
    "causes": [{"trigger": "module1Received", "offset": 7}],
    "decided": "2026-03-01T12:00:00Z",
}
REVOKE = {name: RUN[name] for name in ("id", "session", "task", "instance")} | {"kind": "revoke"}


def decoded(fields: object) -> Decision:
    return commands.decode(json.dumps(fields).encode())


# ---- laws ---------------------------------------------------------------------------------------


@pytest.mark.laws
@given(decisions())
def test_a_decision_comes_back_from_bytes(decision: Decision) -> None:
    assert commands.decode(commands.encode(decision)) == decision


@pytest.mark.laws
@given(decisions())
def test_an_encoded_decision_has_the_bytes_of_its_fields(decision: Decision) -> None:
    """Msgspec encodes the causes of a command, orjson its other fields."""
    assert commands.encode(decision) == dumps(commands.fields_of(decision))


@pytest.mark.laws
@given(st.binary())
def test_bytes_are_a_decision_or_a_decode_error(value: bytes) -> None:
    with pytest.raises(DecodeError):
        commands.decode(value)


# ---- examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cause", [Cause(trigger=TriggerName("\ud800")), Cause(trigger=TriggerName("a"), id="\udfff")]
)
def test_a_cause_that_is_no_unicode_is_a_decode_error_as_any_other_part(cause: Cause) -> None:
    command = structs.replace(decoded(RUN), causes=[cause])
    with pytest.raises(DecodeError, match=r"not a JSON value: .*surrogates not allowed"):
        commands.encode(command)


def test_what_the_deepest_event_brought_can_be_handed_over() -> None:
    command = Command(
        id=CommandId("c"),
        session=SessionId("s"),
        task=TaskName("t"),
        instance=InstanceId("t#0"),
        run="app.t",
        kwargs={"a": {"k": deep(JSON_DEPTH - 1)}},
        config=ConfigHash("h"),
        causes=[],
        decided_us=0,
    )
    assert commands.decode(commands.encode(command)) == command


def test_a_revocation_names_the_command_and_no_more() -> None:
    revoke = decoded(REVOKE)
    assert isinstance(revoke, Revoke)
    assert commands.fields_of(revoke) == REVOKE


@pytest.mark.parametrize(
    ("seconds", "micros"), [(1, 1_000_000), (0.5, 500_000), (1e-6, 1), (LONGEST_US // 1_000_000, LONGEST_US)]
)
def test_an_expiry_is_in_seconds(seconds: float, micros: int) -> None:
    command = decoded(RUN | {"expires": seconds})
    assert isinstance(command, Command)
    assert command.expires_us == micros


@pytest.mark.parametrize("seconds", [0, -1, 1e-7, 3_162_240_000.1, 1e300, True, "5s", []])
def test_an_expiry_is_a_microsecond_at_least_and_a_hundred_years_at_most(seconds: object) -> None:
    with pytest.raises(
        DecodeError, match=r"/expires: must be a number of seconds from 0\.000001 to 3,162,24"
    ):
        decoded(RUN | {"expires": seconds})


def test_an_instant_that_is_none_is_refused_by_its_name() -> None:
    with pytest.raises(DecodeError, match="/decided: must be an RFC 3339 instant"):
        decoded(RUN | {"decided": "soon"})


@pytest.mark.parametrize("instance", ["t_report", "t_other#0", "t_report#00", "#0", "t_report#0#1"])
@pytest.mark.parametrize("fields", [RUN, REVOKE])
def test_an_instance_is_one_of_the_task(fields: dict[str, Any], instance: str) -> None:
    with pytest.raises(DecodeError, match="/instance: must be `t_report#` and a number"):
        decoded(fields | {"instance": instance})


@pytest.mark.parametrize("name", RUN)
def test_a_command_has_every_field_that_says_something(name: str) -> None:
    decoded(RUN)
    with pytest.raises(DecodeError, match=f"/{name}: must be "):
        decoded({key: value for key, value in RUN.items() if key != name})
    with pytest.raises(DecodeError, match=f"/{name}"):
        decoded(RUN | {name: None})


@pytest.mark.parametrize("name", ["queue", "priority", "expires", "traceparent"])
def test_of_what_may_be_left_out_null_says_the_same(name: str) -> None:
    assert decoded(RUN | {name: None}) == decoded(RUN)
    with pytest.raises(DecodeError, match=f"/{name}: must be "):
        decoded(RUN | {name: []})


@pytest.mark.parametrize("cause", [1, {}, {"trigger": "a", "offset": -1}, {"offset": 1}])
def test_a_cause_is_a_trigger_and_its_offset_if_it_has_one(cause: object) -> None:
    with pytest.raises(DecodeError, match="/causes"):
        decoded(RUN | {"causes": [cause]})
    fired = decoded(RUN | {"causes": [{"trigger": "t.timeout"}]})
    assert isinstance(fired, Command)
    assert fired.causes[0].offset is None


@pytest.mark.parametrize("kind", ["", "cancel", 1, None])
def test_a_kind_is_run_or_revoke(kind: object) -> None:
    with pytest.raises(DecodeError, match="/kind: must be"):
        decoded(RUN | {"kind": kind})


@pytest.mark.parametrize("value", [[], "run", None, 1])
def test_a_decision_is_an_object(value: object) -> None:
    with pytest.raises(DecodeError, match="must be an object"):
        decoded(value)
