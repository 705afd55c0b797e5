"""Events in words: ``42 module1Received score=3``, and ``+3d``, which lets time pass.

::

    SESSION TRIGGER [KEY=VALUE]…        a trigger and its data
    SESSION TASK#NUMBER WHAT [KEY=VALUE]…   an outcome (finished, failed, …) or an order (skip, cancel, …)
    +DURATION                           time passes
    @TIME                               the time is TIME

A value is JSON if it can be read as JSON, else text; in quotes it may hold spaces. Dots in keys nest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, get_args

import orjson
from msgspec import structs

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import TYPES, EngineEvent, Order, Outcome, Retried
from triggerstream.core.ids import Json, JsonObject, split_instance_id
from triggerstream.wire.durations import parse_duration
from triggerstream.wire.instants import parse_instant
from triggerstream.wire.json import loads
from triggerstream.wire.tasksfile.nodes import listed, meant, unknown_key
from triggerstream.wire.tasksfile.values import meant_duration

EXAMPLE: Final = "42 module1Received score=3"
_WORD = re.compile(r"\S+")
_SPACE = re.compile(r"\s*")
_KEY = re.compile(r"([^\s=\"']+)=")
_DECODER = json.JSONDecoder()
_VERBS: Final[Mapping[str, type[EngineEvent]]] = {
    TYPES[kind].rpartition(".")[2]: kind for kind in (*get_args(Outcome), *get_args(Order))
}


@dataclass(frozen=True, slots=True)
class Advance:
    """A move of the clock by a number of microseconds."""

    micros: int


@dataclass(frozen=True, slots=True)
class SetClock:
    """A move of the clock to an instant, in microseconds since the epoch."""

    instant_us: int


Words: TypeAlias = JsonObject | Advance | SetClock
"""The fields of an event with its session, or a move of the clock."""


def read_words(text: str) -> Words:
    """The event, or the move of the clock, that ``text`` says.

    Raises:
        DecodeError: it says neither; the message says what would be right.
    """
    stripped = text.strip()
    if stripped.startswith("+"):
        micros = parse_duration(stripped[1:])
        if micros is None:
            meant = meant_duration(stripped[1:])
            right = "write + and a duration: +90s, +5m, +36h, +3d or +1h30m"
            raise DecodeError(right if meant is None else f"did you mean `+{meant}`?")
        return Advance(micros)
    if stripped.startswith("@"):
        return SetClock(parse_instant(stripped[1:], path="after @"))
    if (move := likely_move(stripped)) is not None:
        raise DecodeError(f"did you mean `{move}`?")
    return _Reader(text).event()


def likely_move(text: str) -> str | None:
    """The move of the clock that was meant by a duration or a time alone; None for any other text."""
    if parse_duration(text) is not None:
        return f"+{text}"
    try:
        parse_instant(text)
    except DecodeError:
        return None
    return f"@{text}"


class _Reader:
    """Reads one event, word by word."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.skip_space()

    def skip_space(self) -> None:
        space = _SPACE.match(self.text, self.at)
        self.at = self.at if space is None else space.end()

    def event(self) -> JsonObject:
        session = self.word("a session")
        name = self.word("a trigger")
        if split_instance_id(name) is None:
            if self.text[self.at :].strip() in _VERBS:
                verb = self.text[self.at :].strip()
                raise DecodeError(f"`{verb}`: an instance has a number: did you mean `{name}#0 {verb}`?")
            return {"session": session, "type": name, "data": self.pairs()}
        return {"session": session, **self.about_instance(name)}

    def about_instance(self, name: str) -> JsonObject:
        """An outcome of the instance or an order for it."""
        if self.at == len(self.text):
            raise DecodeError(
                f"after the instance `{name}` there must be what became of it: {listed(_VERBS)}; a trigger "
                "of such a name needs JSON"
            )
        verb = self.word("what became of the instance")
        kind = _VERBS.get(verb)
        if kind is None:
            likely = meant(verb, _VERBS)
            right = f"did you mean `{likely}`?" if likely is not None else f"write one of {listed(_VERBS)}"
            raise DecodeError(f"`{verb[:80]}` is nothing that becomes of an instance: {right}")
        data = self.pairs()
        known = [field.encode_name for field in structs.fields(kind) if field.encode_name != "instance"]
        for key in data:
            if key not in known:
                raise DecodeError(unknown_key(key, known, f"`{verb}` has {listed(known)}"))
        after = data.get("after")
        if kind is Retried and isinstance(after, str) and (micros := parse_duration(after)) is not None:
            data["after"] = micros // 1_000_000
        return {"type": TYPES[kind], "data": {"instance": name, **data}}

    def word(self, what: str) -> str:
        """The next word, in quotes if it holds spaces."""
        if self.at == len(self.text):
            raise DecodeError(f"{what} is missing: write SESSION TRIGGER KEY=VALUE…, such as `{EXAMPLE}`")
        if self.text[self.at] in "\"'":
            found = self.quoted()
            if not found:
                raise DecodeError(f"{what} is empty: write SESSION TRIGGER, such as `{EXAMPLE}`")
            return found
        return self.plain_word()

    def plain_word(self) -> str:
        match = _WORD.match(self.text, self.at)
        found = "" if match is None else match.group()
        self.at += len(found)
        self.skip_space()
        return found

    def quoted(self) -> str:
        """A text in quotes: in double ones with the escapes of JSON, in single ones as it is."""
        quote, begin = self.text[self.at], self.at
        value = self.text[begin + 1 :].partition("'")[0]
        self.at = begin + 1 + len(value) + 1
        if quote == '"':
            try:
                value, self.at = _DECODER.raw_decode(self.text, begin)
            except json.JSONDecodeError:
                self.at = len(self.text) + 1
        if self.at > len(self.text):
            raise DecodeError(f"the quote {quote} before `{self.text[begin + 1 :][:40]}` is not closed")
        self.expect_space(quote)
        return value

    def expect_space(self, after: str) -> None:
        """Go on to the next word."""
        rest = _WORD.match(self.text, self.at)
        if rest is not None:
            raise DecodeError(f"a space is missing between {after} and `{rest.group()[:40]}`")
        self.skip_space()

    def pairs(self) -> JsonObject:
        """The object that the remaining pairs make."""
        fields: JsonObject = {}
        while self.at < len(self.text):
            match = _KEY.match(self.text, self.at)
            if match is None:
                word = self.plain_word()
                raise DecodeError(
                    f"`{word[:80]}`: write KEY=VALUE, such as score=3; a value with spaces is in quotes, and "
                    "a further event is a text of its own"
                )
            self.at = match.end()
            _put(fields, match.group(1), self.value(match.group(1)))
        return fields

    def value(self, key: str) -> Json:
        if self.at < len(self.text) and self.text[self.at] in "\"'":
            return self.quoted()
        if self.at < len(self.text) and self.text[self.at] in "[{":
            begin = self.at
            try:
                _, end = _DECODER.raw_decode(self.text, begin)
            except (ValueError, RecursionError):
                return self.plain_word()
            self.at = end
            self.expect_space(self.text[end - 1])
            return _json(self.text[begin:end], key)
        if self.at == len(self.text) or self.text[self.at].isspace():
            self.skip_space()
            return ""
        return _json(self.plain_word(), key)


def _json(text: str, key: str) -> Json:
    """``text`` as JSON, or as it is where it is not JSON.

    Raises:
        DecodeError: it is JSON that no event can hold, or has a key twice in one object.
    """
    data = text.encode(errors="surrogatepass")
    try:
        value = loads(data)
    except DecodeError as exc:
        if isinstance(exc.__cause__, orjson.JSONDecodeError):
            return text
        raise DecodeError(f"{key}: {exc}") from exc

    def check_keys(pairs: list[tuple[str, object]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DecodeError(f"{key}: the key `{twice}` stands twice in one object: give it once")

    json.loads(data, object_pairs_hook=check_keys)
    return value


def _put(fields: JsonObject, key: str, value: Json) -> None:
    """Add ``value`` under ``key``, whose dots nest."""
    *outer, last = key.split(".")
    if not all((*outer, last)):
        raise DecodeError(
            f"`{key[:80]}`: a key is a name, or names with a dot between them, such as order.id"
        )
    holder = fields
    for depth, name in enumerate(outer, start=1):
        inner = holder.setdefault(name, {})
        if not isinstance(inner, dict):
            taken = ".".join(outer[:depth])
            raise DecodeError(f"`{key}`: `{taken}` has a value already, so nothing can be in it")
        holder = inner
    if last in holder:
        raise DecodeError(f"`{key}` is given twice: give it once")
    holder[last] = value
