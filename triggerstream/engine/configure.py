"""Records that bring a configuration into force, the same for every engine."""

from __future__ import annotations

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import ConfigHash
from triggerstream.core.tasks import Configuration
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord


def configuration_record(
    config: Configuration, *, replaces: ConfigHash | None, number: int
) -> NewRecord | None:
    """The record with which ``config`` replaces the configuration in force (hash ``replaces``, ``number``).

    None if ``config`` is in force already. ``replaces`` None and ``number`` 0: none is in force.
    """
    if config.hash == replaces:
        return None
    body = ConfigApplied(
        text=config.text, hash=config.hash, replaces=replaces, fold=config.fold_version, number=number + 1
    )
    return NewRecord(key=None, value=encode(body))


def check_succession(event: ConfigApplied, *, replaces: ConfigHash | None, number: int) -> int:
    """The number of ``event`` as successor of the configuration in force (hash ``replaces``, ``number``).

    An event without a number gets the next one. If no configuration is in force, any number is accepted: the
    log may have lost its beginning.

    Raises:
        DecodeError: the event expects another configuration in force, or is an old one that was appended
            again.
    """
    if event.number is None:
        return number + 1
    if replaces is None:
        return event.number
    if event.number != number + 1:
        raise DecodeError(
            f"/data/number: must be {number + 1}, one more than the configuration in force, is {event.number}"
        )
    if event.replaces != replaces:
        raise DecodeError(
            f"/data/replaces: must be {replaces}, the configuration in force, is {event.replaces or 'null'}"
        )
    return event.number
