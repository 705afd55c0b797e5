"""Bringing a configuration into force: the same for every engine."""

from __future__ import annotations

from triggerstream.core.events import ConfigApplied
from triggerstream.core.tasks import FOLD_VERSION, Applied, Configuration, Rules
from triggerstream.engine.ports import ConfigurationText
from triggerstream.wire import tasksfile
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord


def configuration_record(config: Configuration, *, current: Configuration) -> NewRecord | None:
    """The record that has ``config`` take the place of ``current``; None where it is in force already."""
    if config.hash == current.hash:
        return None
    body = ConfigApplied(text=config.text, hash=config.hash, replaces=current.hash or None, fold=FOLD_VERSION)
    return NewRecord(key=None, value=encode(body))


def applied(stored: ConfigurationText) -> Applied:
    """A configuration that was in force, read again.

    Raises:
        ConfigError: this release cannot read it.
    """
    config = tasksfile.read(stored.text, name=f"configuration at offset {stored.offset}")
    return Applied(config=config, offset=stored.offset, arrival_us=stored.arrival_us)


def resumed_rules(rules: Rules, configurations: tuple[ConfigurationText, ...]) -> Rules:
    """``rules`` with the history that was stored."""
    for stored in configurations:
        rules = rules.apply(applied(stored))
    return rules
