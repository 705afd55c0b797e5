"""Every way in that takes values of Python code takes the same ones, and gives the same JSON."""

from __future__ import annotations

import asyncio
import json
import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias
from uuid import UUID

import kombu.utils.json as kombu_json
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.celery.conftest import command
from tests.support.intake import intake
from triggerstream import Client
from triggerstream.adapters.celery import outcomes
from triggerstream.adapters.celery.context import CommandContext
from triggerstream.adapters.celery.delivery import HEADER, Delivery, delivery_of, header_of
from triggerstream.adapters.celery.plain_values import NotReportableError
from triggerstream.adapters.memory import MemoryDatabase, MemoryLog
from triggerstream.cli.commands.fire import fire as fire_command
from triggerstream.cli.parameters import json_value
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.events import Skip
from triggerstream.core.ids import SessionId
from triggerstream.engine.operations.orders import AddressedOrder, order_record

DOCS = Path(__file__).parent.parent / "docs" / "producers.md"


class Size(str, Enum):  # noqa: UP042 - the form in question: `str(Size.SMALL)` is "Size.SMALL"
    SMALL = "s"


class Level(IntEnum):
    HIGH = 3


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: object


@dataclass
class Money:
    cents: int

    def __json__(self) -> str:
        return f"{self.cents / 100:.2f} EUR"


# ---- the ways in ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """A value was refused, for ``reason``, which is that of the part at fault."""

    reason: str


Outcome: TypeAlias = tuple[str, Any] | Refused
SENT = command("echo")
_PLACE = re.compile(r"^[^:]*: ")


def delivery() -> Delivery:
    found = delivery_of({HEADER: header_of(SENT)})
    assert found is not None
    return found


def fired_by_client(value: object) -> object:
    database = MemoryDatabase()

    async def work() -> None:
        async with Client(MemoryLog(database)) as client:
            await client.fire("s", "a", {"v": value})

    asyncio.run(work())
    return json.loads(database.records[-1].value or b"")["data"]["v"]


def fired_by_task(value: object) -> object:
    appended: list[bytes] = []

    def append(_session: SessionId, event: bytes) -> None:
        appended.append(event)

    context = CommandContext(
        **{name: getattr(SENT, name) for name in ("session", "task", "instance", "attempt", "retries")},
        command=SENT.id,
        config=SENT.config,
        causes=tuple(SENT.causes),
        traceparent=None,
        trigger_kwargs={},
        token=None,
        _delivery=delivery(),
        _max_retries=3,
        _append=append,
        _connect=lambda: pytest.fail("no guard"),
        _fires=Counter(),
    )
    context.fire("a", {"v": value})
    return json.loads(appended[-1])["data"]["v"]


def returned(value: object) -> object:
    return json.loads(outcomes.finished(delivery(), {"v": value}))["data"]["result"]["v"]


def skipped(value: object) -> object:
    return json.loads(outcomes.skipped(delivery(), {"v": value}))["data"]["metadata"]["v"]


def retried(value: object) -> object:
    event = outcomes.retried(delivery(), after_s=0, kwargs={"v": value})
    return json.loads(event)["data"]["kwargs"]["v"]


DOORS: Mapping[str, Callable[[object], object]] = {
    "client.fire": fired_by_client,
    "context.fire": fired_by_task,
    "result": returned,
    "metadata": skipped,
    "retry": retried,
}


def through(door: Callable[[object], object], value: object) -> Outcome:
    try:
        return json.dumps(door(value)), None
    except (UsageError, NotReportableError) as exc:
        return Refused(_PLACE.sub("", str(exc).removeprefix("cannot fire 'a': ")))


# ---- the law -------------------------------------------------------------------------------------

texts = st.text(max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.uuids()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.times()
    | st.decimals()
    | st.binary(max_size=8)
    | st.sampled_from([Size.SMALL, Level.HIGH, Money(cents=150)])
)
more_than_celery = st.sampled_from([Colour.RED, Size, object(), {1}, 1j])
keys = texts | st.integers() | st.booleans() | st.none() | st.floats() | st.just(Size.SMALL)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda below: (
            st.lists(below, max_size=3) | st.tuples(below, below) | st.dictionaries(keys, below, max_size=3)
        ),
        max_leaves=8,
    )


@given(nested(scalars | more_than_celery | st.builds(Point, x=st.integers(), y=scalars)))
def test_every_way_in_takes_the_same_values_and_gives_the_same_json(value: object) -> None:
    found = {name: through(door, value) for name, door in DOORS.items()}
    assert len(set(found.values())) == 1, found


def flat(value: object) -> object:
    """Celery's JSON of a value, with text in place of its notation for types, as the table has it."""
    match value:
        case {"__type__": "uuid", "__value__": {"hex": text}}:
            return str(UUID(text))
        case {"__type__": "base64", "__value__": text}:
            return text
        case {"__type__": "bytes", "__value__": str(text)}:
            return b64encode(text.encode()).decode()
        case {"__type__": _, "__value__": text}:
            return text
        case dict():
            return {name: flat(item) for name, item in value.items()}
        case list():
            return [flat(item) for item in value]
    return value


def exceeds_json(value: object) -> bool:
    """True for what Celery's JSON writes, and no other JSON reader reads in the same way."""
    match value:
        case bool():
            return False
        case int():
            return not -(2**63) <= value < 2**63
        case float():
            return not math.isfinite(value)
        case str():
            return any("\ud800" <= character <= "\udfff" for character in value)
        case dict():
            names = [key for key, _ in value.items()]
            return any(
                exceeds_json(item) or (not isinstance(key, int) and exceeds_json(key))
                for key, item in value.items()
            ) or len(json.loads(json.dumps(dict.fromkeys(names)))) < len(names)
        case list() | tuple():
            return any(exceeds_json(item) for item in value)
    return False


@given(nested(scalars))
def test_what_celery_takes_is_taken_and_gives_the_same_json_with_text_for_types(value: object) -> None:
    found = through(returned, value)
    if exceeds_json(value):
        assert isinstance(found, Refused)
        return
    written = json.loads(kombu_json.dumps(value))
    assert found == (json.dumps(flat(written)), None)


@given(nested(scalars | st.just(Colour.RED)))
def test_http_and_the_command_line_take_the_json_that_python_code_gives(value: object) -> None:
    found = through(fired_by_client, value)
    if isinstance(found, Refused):
        return
    text, _ = found
    assert json.dumps(json_value(text, "--data")) == text


# ---- the table -----------------------------------------------------------------------------------

_ROW = re.compile(r"^\| [^|]+ \| `(?P<python>[^|]+)` \| `(?P<json>[^|]+)`(?: \([^|]+\))? \|$", re.MULTILINE)
_NAMES = {
    kind.__name__: kind for kind in (UUID, datetime, date, time, Decimal, Size, Level, Colour, Point, Money)
} | {"UTC": UTC, "MappingProxyType": MappingProxyType}


def rows() -> list[tuple[str, str]]:
    page = DOCS.read_text(encoding="utf-8")
    section = page[page.index("## Values of Python code") : page.index("## Which partition")]
    return [(row["python"], row["json"]) for row in _ROW.finditer(section)]


def test_the_table_has_all_its_rows() -> None:
    assert len(rows()) == 12


@pytest.mark.parametrize(("python", "written"), rows())
def test_each_row_of_the_table_is_true_at_every_way_in(python: str, written: str) -> None:
    value = eval(python, dict(_NAMES))  # noqa: S307 - an expression of our own page
    for name, door in DOORS.items():
        assert json.dumps(door(value)) == json.dumps(json.loads(written)), name


async def test_the_table_over_http_and_the_command_line_gives_the_same_events() -> None:
    database = MemoryDatabase()
    async with (
        TestClient(TestServer(intake(MemoryLog(database), database))) as http,
        Client(str(http.make_url("/")).rstrip("/")) as client,
    ):
        for python, written in rows():
            await client.fire("s", "a", {"v": eval(python, dict(_NAMES))}, id="1")  # noqa: S307 - an expression of our own page
            async with http.post("/v1/sessions/s/triggers/a?id=1", data=f'{{"v": {written}}}') as answer:
                assert answer.status == 202
            at = str(http.make_url("/")).rstrip("/")
            arguments = ["s", "a", f"v={written}", "--id", "1", "--to", at]
            await asyncio.to_thread(fire_command.main, arguments, standalone_mode=False)
            found = [json.loads(record.value or b"")["data"] for record in database.records[-3:]]
            assert found == [{"v": json.loads(written)}] * 3


# ---- depth ---------------------------------------------------------------------------------------


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("door", [fired_by_client, fired_by_task])
def test_data_of_a_trigger_fills_an_event_of_64_levels_and_no_more(door: Callable[[object], object]) -> None:
    assert door(deep(62)) == deep(62)
    assert through(door, deep(63)) == Refused("nested deeper than 64")


def test_an_order_whose_result_is_too_deep_for_an_event_is_refused_before_it_is_appended() -> None:
    def order(result: Any) -> Skip:  # noqa: ANN401 - JSON
        return Skip(instance=SENT.instance, cascade=True, result=result, reason="r", by="b")

    order_record(AddressedOrder(session=SENT.session, order=order(deep(62))))
    with pytest.raises(DecodeError, match="deeper than 64"):
        order_record(AddressedOrder(session=SENT.session, order=order(deep(63))))
