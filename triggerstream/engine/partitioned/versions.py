"""The history of a partition's configurations, as stored in its changelog.

``versions``         [{offset, arrival, number, hash, bytes}], oldest first, without texts
``versions:1``, …    further versions, if one record would be too long
``text:<hash>``      the text of a configuration, once, however often it was in force
``configurations``   the former format, with all texts: read, and replaced at the next checkpoint

Each text is a separate record, so that no record is longer than a tasks file may be, for any length of the
history. A text is deleted in the same transaction as the last version that refers to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import AppId, ConfigHash, JsonObject
from triggerstream.core.tasks import AppliedConfiguration, Configuration, PastConfiguration, Rules
from triggerstream.engine.configuration_cache import ConfigurationCache, with_history
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire.json import as_object, dumps, integer, loads, optional_integer, text_of
from triggerstream.wire.marks import RESERVED, check_version

VERSIONS_KEY = RESERVED + b"versions"
TEXT_PREFIX = RESERVED + b"text:"
FORMER_KEY = RESERVED + b"configurations"
VERSIONS_FORMAT = 1
MOST_IN_RECORD = 4_096
"""Versions in one record: some 600 KiB."""

Get = Callable[[bytes], bytes | None]
"""Function that returns the value of a key in a changelog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHistory:
    """The history stored in a changelog. ``former``: in the former format."""

    versions: tuple[PastConfiguration, ...] = ()
    former: bool = False

    @property
    def texts(self) -> frozenset[ConfigHash]:
        """The hashes of its texts."""
        return frozenset(one.hash for one in self.versions)

    def rules(self, app: AppId) -> Rules:
        """The rules with this history; the configuration in force is parsed.

        Raises:
            DecodeError: its text is missing.
            ConfigError: this release cannot read it.
        """
        return with_history(app, self.versions)


def read_history(get: Get, cache: ConfigurationCache) -> StoredHistory:
    """Read the history of a changelog. ``get`` is called for texts when they are needed, also later.

    Raises:
        DecodeError: it cannot be read, or has a version that this release does not know.
    """
    value = get(VERSIONS_KEY)
    if value is None:
        return _former(get, cache)
    versions: list[PastConfiguration] = []
    more = 0
    while value is not None:
        fields = as_object(loads(value), "")
        check_version(integer(fields, "version", minimum=1), known=VERSIONS_FORMAT)
        items = fields.get("versions")
        if not isinstance(items, list):
            raise DecodeError("/versions: must be an array")
        for item in items:
            entry = as_object(item, "/versions")
            wanted = ConfigHash(text_of(entry, "hash", "/versions"))
            versions.append(
                PastConfiguration(
                    hash=wanted,
                    offset=integer(entry, "offset", "/versions"),
                    arrival_us=integer(entry, "arrival", "/versions"),
                    number=integer(entry, "number", "/versions"),
                    size=integer(entry, "bytes", "/versions"),
                    read=configuration_reader(get, cache, wanted),
                )
            )
        more += 1
        value = get(_key(more)) if len(items) == MOST_IN_RECORD else None
    return StoredHistory(versions=tuple(versions))


def configuration_reader(
    get: Get, cache: ConfigurationCache, wanted: ConfigHash
) -> Callable[[], Configuration]:
    """Reader for a configuration whose text is in a changelog."""
    return partial(cache.get, wanted, partial(_text, get, wanted))


def history_texts(get: Get) -> tuple[ConfigurationText, ...]:
    """The history of a changelog, with its texts.

    Raises:
        DecodeError: as :func:`read_history`; or a text is missing.
    """
    stored = read_history(get, ConfigurationCache())
    return tuple(
        ConfigurationText(
            offset=one.offset,
            arrival_us=one.arrival_us,
            hash=one.hash,
            text=_text(get, one.hash),
            number=one.number,
        )
        for one in stored.versions
    )


def history_entries(rules: Rules, before: StoredHistory) -> dict[bytes, bytes | None]:
    """The changes that turn a changelog with the history ``before`` into one with the history of ``rules``.

    Empty if the histories are equal. Existing texts are not written again.
    """
    kept = [one for one in rules.history if one.offset >= 0]
    if not before.former and [_place(one) for one in kept] == [_place(one) for one in before.versions]:
        return {}
    records = [kept[at : at + MOST_IN_RECORD] for at in range(0, len(kept), MOST_IN_RECORD)] or [[]]
    entries: dict[bytes, bytes | None] = {_key(n): _encode(some) for n, some in enumerate(records)}
    for number in range(len(records), -(-len(before.versions) // MOST_IN_RECORD)):
        entries[_key(number)] = None
    there = frozenset[ConfigHash]() if before.former else before.texts
    wanted = {one.hash: one for one in kept}
    for name, one in wanted.items():
        if name not in there:
            entries[_text_key(name)] = one.config.text.encode()
    entries.update({_text_key(name): None for name in there - wanted.keys()})
    if before.former:
        entries[FORMER_KEY] = None
    return entries


def is_history(key: bytes) -> bool:
    """True if ``key`` is a key of the history."""
    return key.startswith((VERSIONS_KEY, TEXT_PREFIX)) or key == FORMER_KEY


def stored_history(rules: Rules, get: Get, cache: ConfigurationCache) -> StoredHistory:
    """The stored history of a changelog after the history of ``rules`` is written."""
    return StoredHistory(
        versions=tuple(
            PastConfiguration.of(one, read=configuration_reader(get, cache, one.hash))
            for one in rules.history
            if one.offset >= 0
        )
    )


def _key(number: int) -> bytes:
    return VERSIONS_KEY if number == 0 else b"%s:%d" % (VERSIONS_KEY, number)


def _text_key(name: ConfigHash) -> bytes:
    return TEXT_PREFIX + name.encode()


def _place(version: AppliedConfiguration | PastConfiguration) -> tuple[int, ConfigHash]:
    return version.offset, version.hash


def _encode(versions: list[AppliedConfiguration | PastConfiguration]) -> bytes:
    items: list[JsonObject] = [
        {
            "offset": one.offset,
            "arrival": one.arrival_us,
            "number": one.number,
            "hash": one.hash,
            "bytes": one.size,
        }
        for one in versions
    ]
    return dumps({"version": VERSIONS_FORMAT, "versions": [*items]})


def _text(get: Get, wanted: ConfigHash) -> str:
    value = get(_text_key(wanted))
    if value is None:
        found = next((one for one in _former_texts(get) if one.hash == wanted), None)
        if found is None:
            raise DecodeError(f"the text of configuration {wanted} is missing")
        return found.text
    if sha256(value).hexdigest() != wanted:
        raise DecodeError(f"the text of configuration {wanted} has another hash")
    return value.decode()


def _former(get: Get, cache: ConfigurationCache) -> StoredHistory:
    return StoredHistory(
        versions=tuple(
            PastConfiguration.of(one, read=configuration_reader(get, cache, one.hash))
            for one in _former_texts(get)
        ),
        former=get(FORMER_KEY) is not None,
    )


def _former_texts(get: Get) -> tuple[ConfigurationText, ...]:
    value = get(FORMER_KEY)
    if value is None:
        return ()
    fields = as_object(loads(value), "")
    check_version(integer(fields, "version", minimum=1), known=1)
    items = fields.get("configurations")
    if not isinstance(items, list):
        raise DecodeError("/configurations: must be an array")
    found = []
    for count, item in enumerate(items, 1):
        entry = as_object(item, "/configurations")
        number = optional_integer(entry, "number", "/configurations")
        found.append(
            ConfigurationText(
                offset=integer(entry, "offset", "/configurations"),
                arrival_us=integer(entry, "arrival", "/configurations"),
                hash=ConfigHash(text_of(entry, "hash", "/configurations")),
                text=text_of(entry, "text", "/configurations"),
                number=count if number is None else number,
            )
        )
    return tuple(found)
