"""How a partition's changelog keeps the history of configurations: each text once, and none for long."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import AppId, Json, JsonObject
from triggerstream.core.tasks import AppliedConfiguration, PastConfiguration, Rules
from triggerstream.engine.configuration_cache import ConfigurationCache, unload_past
from triggerstream.engine.migration import MOST_TEXT_BYTES, MOST_VERSIONS, overdue_before
from triggerstream.engine.partitioned import versions
from triggerstream.engine.partitioned.versions import (
    FORMER_KEY,
    TEXT_PREFIX,
    VERSIONS_KEY,
    StoredHistory,
    history_entries,
    history_texts,
    is_history,
    read_history,
    stored_history,
)
from triggerstream.wire import tasksfile
from triggerstream.wire.json import dumps, loads
from triggerstream.wire.marks import CHECKPOINT_KEY

APP = AppId("test")


def text_of(number: int, *, padding: int = 0) -> str:
    """A tasks file that differs from that of another number."""
    return f'{{"t": {{"after": ["a", "b{number}"], "run": "tasks.t"}}}} // {"x" * padding}'


def applied(offset: int, number: int, *, padding: int = 0) -> AppliedConfiguration:
    config = tasksfile.read(text_of(number, padding=padding), name="t")
    return AppliedConfiguration(config=config, offset=offset, arrival_us=offset * 10)


def put(kept: dict[bytes, bytes], entries: Mapping[bytes, bytes | None]) -> None:
    """As a changelog takes them."""
    for key, value in entries.items():
        if value is None:
            assert kept.pop(key, None) is not None, f"{key!r} was not there"
        else:
            kept[key] = value


def former(rules: Rules) -> bytes:
    """The history of ``rules`` in the former format."""
    return dumps(
        {
            "version": 1,
            "configurations": [
                {"offset": one.offset, "arrival": one.arrival_us, "hash": one.hash, "text": one.config.text}
                for one in rules.history
                if one.offset >= 0
            ],
        }
    )


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_the_history_and_nothing_else(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(versions, "MOST_IN_RECORD", 3)
    chance = random.Random(seed)
    cache = ConfigurationCache(most_bytes=1)
    kept: dict[bytes, bytes] = {}
    rules, stored, offset = Rules(app=APP), StoredHistory(), 0
    for _ in range(60):
        for _ in range(chance.randint(0, 3)):
            offset += chance.randint(1, 5)
            rules = rules.apply(applied(offset, chance.randint(0, 4)))
        if chance.random() < 0.3:
            rules = rules.forget(chance.choice(rules.history).offset)
        entries = history_entries(rules, stored)
        put(kept, entries)
        stored = stored_history(rules, kept.get, cache)
        rules = unload_past(rules, cache)
        assert history_entries(rules, stored) == {}, "it is there"
        wanted = [one for one in rules.history if one.offset >= 0]
        read = read_history(kept.get, cache).rules(APP)
        assert [(one.offset, one.arrival_us, one.config) for one in read.history[1:]] == [
            (one.offset, one.arrival_us, one.config) for one in wanted
        ]
        assert read.current == rules.current
        assert {key for key in kept if key.startswith(TEXT_PREFIX)} == {
            TEXT_PREFIX + one.hash.encode() for one in wanted
        }
        assert sum(key.startswith(VERSIONS_KEY) for key in kept) in {0, max(1, -(-len(wanted) // 3))}
        if chance.random() < 0.3:
            stored = read_history(kept.get, cache)


def test_a_history_in_the_former_format_is_read_and_replaced() -> None:
    rules = Rules(app=APP)
    for offset, number in enumerate((1, 2, 1, 3)):
        rules = rules.apply(applied(offset, number))
    kept = {FORMER_KEY: former(rules)}
    cache = ConfigurationCache()
    stored = read_history(kept.get, cache)
    read = stored.rules(APP)
    assert cache.parsed == 1
    assert [one.config.text for one in read.history] == [one.config.text for one in rules.history]
    put(kept, history_entries(read, stored))
    assert FORMER_KEY not in kept
    assert [one.text for one in history_texts(kept.get)] == [text_of(n) for n in (1, 2, 1, 3)]
    assert sum(key.startswith(TEXT_PREFIX) for key in kept) == 3


def test_an_empty_history_in_the_former_format_is_replaced_too() -> None:
    kept = {FORMER_KEY: former(Rules(app=APP))}
    stored = read_history(kept.get, ConfigurationCache())
    put(kept, history_entries(stored.rules(APP), stored))
    assert list(kept) == [VERSIONS_KEY]


def test_a_text_that_is_missing_or_another_one_is_named() -> None:
    rules = Rules(app=APP).apply(applied(1, 1)).apply(applied(2, 2))
    kept: dict[bytes, bytes] = {}
    put(kept, history_entries(rules, StoredHistory()))
    key = TEXT_PREFIX + rules.history[1].hash.encode()
    stored = read_history({**kept, key: b"{}"}.get, ConfigurationCache())
    with pytest.raises(
        DecodeError, match=rf"the text of configuration {rules.history[1].hash} has another hash"
    ):
        stored.versions[0].read()
    del kept[key]
    assert read_history(kept.get, ConfigurationCache()).rules(APP).current.offset == 2, "nobody needs it yet"
    with pytest.raises(DecodeError, match=r"the text of configuration \w+ is missing"):
        history_texts(kept.get)


def test_a_history_is_read_with_all_its_facts() -> None:
    rules = Rules(app=APP).apply(numbered(0, 1, at=7)).apply(numbered(5, 2, at=8))
    kept: dict[bytes, bytes] = {}
    put(kept, history_entries(rules, StoredHistory()))
    texts = [text_of(number) for number in (1, 2)]
    facts = [
        (offset, 10 * offset, number, tasksfile.read(text, name="t").hash)
        for offset, number, text in ((0, 7, texts[0]), (5, 8, texts[1]))
    ]
    stored = read_history(kept.get, ConfigurationCache())
    assert not stored.former
    assert stored.rules(APP).app == APP
    assert [(one.offset, one.arrival_us, one.number, one.hash) for one in stored.versions] == facts
    assert [one.size for one in stored.versions] == [len(text) for text in texts]
    found = history_texts(kept.get)
    assert [(one.offset, one.arrival_us, one.number, one.hash) for one in found] == facts
    assert [one.text for one in found] == texts
    cache = ConfigurationCache()
    written = stored_history(rules, kept.get, cache)
    assert written == stored
    for _ in range(2):
        assert [one.config.text for one in written.versions] == texts
    assert cache.parsed == 2, "each once"


def numbered(offset: int, number: int, *, at: int) -> AppliedConfiguration:
    return replace(applied(offset, number), number=at)


def test_versions_of_the_former_format_are_counted_where_they_have_no_number() -> None:
    rules = Rules(app=APP).apply(applied(3, 1)).apply(applied(5, 2))
    value = loads(former(rules))
    assert isinstance(value, dict)
    configurations = value["configurations"]
    assert isinstance(configurations, list)
    assert isinstance(configurations[1], dict)
    for number, shown in ((None, 2), (9, 9)):
        configurations[1]["number"] = number
        kept = {FORMER_KEY: dumps(value)}
        stored = read_history(kept.get, ConfigurationCache())
        assert stored.former
        facts = [(3, 30, 1), (5, 50, shown)]
        assert [(one.offset, one.arrival_us, one.number) for one in stored.versions] == facts
        assert [(one.offset, one.arrival_us, one.number) for one in history_texts(kept.get)] == facts
        assert [one.size for one in stored.versions] == [len(text_of(1)), len(text_of(2))]


def test_keys_of_the_history_are_told_from_others() -> None:
    keys = [VERSIONS_KEY, VERSIONS_KEY + b":1", TEXT_PREFIX + b"0", FORMER_KEY]
    assert all(map(is_history, keys))
    assert not any(map(is_history, [CHECKPOINT_KEY, FORMER_KEY + b"x", b"s", b""]))


ENTRY: JsonObject = {"offset": 1, "arrival": 2, "number": 3, "hash": "h", "bytes": 4, "text": "{}"}


@pytest.mark.parametrize(("key", "name"), [(VERSIONS_KEY, "versions"), (FORMER_KEY, "configurations")])
@pytest.mark.parametrize(
    ("items", "says"),
    [
        (None, "must be an array"),
        ([5], "must be an object, is a number"),
        *(
            ([{**ENTRY, field: wrong}], f"/{field}: must be ")
            for field, wrong in (("offset", -1), ("arrival", "x"), ("number", -1), ("hash", ""))
        ),
    ],
)
def test_an_unreadable_history_is_refused_with_the_place(
    key: bytes, name: str, items: Json, says: str
) -> None:
    kept = {key: dumps({"version": 1, name: items})}
    with pytest.raises(DecodeError, match=rf"^/{name}:? ?{re.escape(says)}"):
        read_history(kept.get, ConfigurationCache())


@pytest.mark.parametrize(
    ("key", "name", "field"), [(VERSIONS_KEY, "versions", "bytes"), (FORMER_KEY, "configurations", "text")]
)
def test_a_fact_that_one_format_has_alone_is_needed_there(key: bytes, name: str, field: str) -> None:
    entry = {one: value for one, value in ENTRY.items() if one != field}
    kept = {key: dumps({"version": 1, name: [entry]})}
    with pytest.raises(DecodeError, match=rf"^/{name}/{field}: must be .*, is missing$"):
        read_history(kept.get, ConfigurationCache())


@pytest.mark.parametrize(("key", "name"), [(VERSIONS_KEY, "versions"), (FORMER_KEY, "configurations")])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "^: must be an object, is an array$"),
        ({}, "^/version: must be an integer of at least 1, is missing$"),
        ({"version": 0}, "^/version: must be an integer of at least 1"),
        ({"version": 2}, "^/version: 2 is newer than this release, which reads up to 1$"),
    ],
)
def test_a_history_needs_a_version_that_is_known(key: bytes, name: str, value: Json, says: str) -> None:
    entries = {**value, name: []} if isinstance(value, dict) else value
    with pytest.raises(DecodeError, match=says):
        read_history({key: dumps(entries)}.get, ConfigurationCache())


def test_a_newer_format_is_refused() -> None:
    kept = {VERSIONS_KEY: dumps({"version": 9, "versions": []})}
    with pytest.raises(DecodeError, match="9 is newer than this release"):
        read_history(kept.get, ConfigurationCache())


def test_a_file_is_parsed_once_for_all_and_the_longest_unused_is_parsed_again() -> None:
    size = len(text_of(1, padding=1_000))
    cache = ConfigurationCache(most_bytes=3 * size)
    texts = [text_of(number, padding=1_000) for number in range(4)]
    configs = [cache.read(text) for text in texts[:3]]
    assert [cache.read(text) for text in texts[:3]] == configs
    assert cache.parsed == 3
    assert cache.get(configs[0].hash, lambda: pytest.fail("it is known")) is configs[0]
    cache.read(texts[3])
    assert cache.parsed == 4
    assert cache.read(texts[0]) is configs[0], "it was used after the second one"
    assert cache.get(configs[1].hash, lambda: texts[1]) == configs[1]
    assert cache.parsed == 5


def test_a_past_configuration_is_parsed_when_a_session_meets_it() -> None:
    rules = Rules(app=APP)
    for offset in range(5):
        rules = rules.apply(applied(offset, offset))
    cache = ConfigurationCache()
    unloaded = unload_past(rules, cache)
    assert [type(one) for one in unloaded.history[1:]] == [
        PastConfiguration,
        PastConfiguration,
        PastConfiguration,
        PastConfiguration,
        AppliedConfiguration,
    ]
    assert cache.parsed == 0
    assert [one.config for one in unloaded.missed(2)] == [one.config for one in rules.missed(2)]
    assert cache.parsed == 1, "the last one is in force"
    assert unload_past(unloaded, cache) is unloaded
    assert unloaded.forget(3).history == unloaded.history[-2:]


@pytest.mark.parametrize(
    ("count", "padding", "left"),
    [
        (MOST_VERSIONS - 1, 0, MOST_VERSIONS),
        (MOST_VERSIONS + 10, 0, MOST_VERSIONS),
        (30, MOST_TEXT_BYTES // 20, 19),
        (2, MOST_TEXT_BYTES * 2, 1),
    ],
    ids=["short", "long", "much text", "two texts"],
)
def test_a_history_is_overdue_where_it_is_long_or_has_much_text(count: int, padding: int, left: int) -> None:
    rules = Rules(app=APP)
    for offset in range(count):
        config = applied(offset, offset).config
        object.__setattr__(config, "text", config.text + "x" * padding)
        rules = rules.apply(AppliedConfiguration(config=config, offset=offset, arrival_us=0))
    limit = overdue_before(rules)
    kept = rules if limit is None else rules.forget(limit)
    assert len(kept.history) == left
    assert overdue_before(kept) is None
