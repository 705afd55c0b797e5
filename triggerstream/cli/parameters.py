"""Types of parameters that several commands share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import Json

if TYPE_CHECKING:
    from triggerstream.engine.checkpoint import LostRange

_LOST = re.compile("([0-9]{1,10}):([0-9]{1,18})-([0-9]{1,18})")


class Duration(click.ParamType):
    """``90s``, ``5m``, ``36h``, ``40d`` or combinations, as microseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """The duration in microseconds."""
        from triggerstream.wire.durations import parse_duration

        if isinstance(value, int):
            return value
        micros = parse_duration(value)
        if micros is None:
            self.fail(f"{value!r} is not a duration: write 90s, 5m, 36h, 40d or 1h30m", param, ctx)
        return micros


class LostOffsets(click.ParamType):
    """``3:41-57``: offsets 41 to 57 of partition 3."""

    name = "offsets"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LostRange:  # noqa: ANN401
        """The range."""
        from triggerstream.engine.checkpoint import LostRange

        if isinstance(value, LostRange):
            return value
        match = _LOST.fullmatch(value)
        if match is None or int(match[2]) > int(match[3]):
            self.fail(f"{value!r}: write PARTITION:FROM-TO, such as 3:41-57", param, ctx)
        return LostRange(partition=int(match[1]), first=int(match[2]), last=int(match[3]))


class NotJsonError(click.BadParameter):
    """A value that is not JSON."""


def json_value(text: str, option: str) -> Json:
    """The JSON value that ``option`` has.

    Raises:
        NotJsonError: it is not JSON.
        UsageError: it is JSON that no event can hold, or has a key twice in one object.
    """
    import json

    from orjson import JSONDecodeError

    from triggerstream.wire.json import BYTE_ORDER_MARK, loads

    data = text.encode(errors="surrogateescape")
    try:
        value = loads(data)
    except DecodeError as exc:
        if isinstance(exc.__cause__, JSONDecodeError):
            raise NotJsonError(str(exc), param_hint=option) from exc
        raise UsageError(f"{option}: {exc}") from exc

    def check_keys(pairs: list[tuple[str, Any]]) -> None:
        known: set[str] = set()
        for key, _ in pairs:
            if key in known:
                raise UsageError(f"{option}: the key {key!r} stands twice in one object: give it once")
            known.add(key)

    # orjson keeps the last of equal keys. A person who writes two of them would lose a value in silence.
    json.loads(data.removeprefix(BYTE_ORDER_MARK), object_pairs_hook=check_keys)
    return value
