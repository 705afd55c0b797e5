"""Cache of past tasks files, which are parsed when a session first has to meet them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

from triggerstream.core.ids import AppId, ConfigHash
from triggerstream.core.tasks import (
    NEVER_APPLIED,
    AppliedConfiguration,
    Configuration,
    PastConfiguration,
    Rules,
    Version,
)
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire import tasksfile

CACHE_BYTES = 32 * 1024 * 1024
"""Bytes of text whose parsed form a process caches; the parsed form takes some five times as much memory. A
file of 600 KiB takes 0.2 s to parse."""


class ConfigurationCache:
    """LRU cache of parsed tasks files by hash, shared by everything in a process that reads them."""

    def __init__(self, *, most_bytes: int = CACHE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._known: OrderedDict[ConfigHash, Configuration] = OrderedDict()
        self.parsed = 0
        """The number of files parsed."""

    def read(self, text: str | bytes, *, name: str = "configuration") -> Configuration:
        """The configuration parsed from ``text``.

        Raises:
            ConfigError: this release cannot read it; ``name`` is its name in the message.
        """
        content = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
        known = self._recall(ConfigHash(sha256(content).hexdigest()))
        return known if known is not None else self._parse(text, name)

    def get(self, wanted: ConfigHash, text: Callable[[], str]) -> Configuration:
        """The configuration with this hash; ``text`` returns its text if it has to be parsed.

        Raises:
            ConfigError: this release cannot read it.
        """
        known = self._recall(wanted)
        return known if known is not None else self._parse(text(), f"configuration {wanted}")

    def _recall(self, wanted: ConfigHash) -> Configuration | None:
        known = self._known.get(wanted)
        if known is not None:
            self._known.move_to_end(wanted)
        return known

    def _parse(self, text: str | bytes, name: str) -> Configuration:
        config = tasksfile.read(text, name=name)
        self.parsed += 1
        self.add(config)
        return config

    def add(self, config: Configuration) -> None:
        """Cache a configuration that the caller has parsed."""
        if config.hash not in self._known:
            self._known[config.hash] = config
            self._bytes += len(config.text)
        while self._bytes > self._most_bytes and len(self._known) > 1:
            _, gone = self._known.popitem(last=False)
            self._bytes -= len(gone.text)


def unload_past(rules: Rules, cache: ConfigurationCache) -> Rules:
    """``rules`` in which only the configuration in force is parsed; past ones are kept as text."""
    return rules.unload_past(lambda applied: _reader(cache, applied.config.hash, applied.config.text))


def rules_of(app: AppId, stored: Sequence[ConfigurationText], cache: ConfigurationCache) -> Rules:
    """The rules with the history that was stored, oldest first.

    Raises:
        ConfigError: this release cannot read the one in force.
    """
    return with_history(
        app, [PastConfiguration.of(one, read=_reader(cache, one.hash, one.text)) for one in stored]
    )


def with_history(app: AppId, past: Sequence[PastConfiguration]) -> Rules:
    """The rules with the configurations ``past``, oldest first; the last is in force, and parsed at once."""
    history: tuple[Version, ...] = (NEVER_APPLIED, *past)
    if past:
        last = past[-1]
        current = AppliedConfiguration(
            config=last.config, offset=last.offset, arrival_us=last.arrival_us, number=last.number
        )
        history = (*history[:-1], current)
    return Rules(app=app, history=history)


def _reader(cache: ConfigurationCache, wanted: ConfigHash, text: str) -> Callable[[], Configuration]:
    return partial(cache.get, wanted, lambda: text)
