"""Bringing a configuration into force: the same for every engine."""

from __future__ import annotations

from triggerstream.core.errors import DecodeError
from triggerstream.core.events import ConfigApplied
from triggerstream.core.ids import ConfigHash
from triggerstream.core.tasks import FOLD_VERSION, Configuration
from triggerstream.wire.events import encode
from triggerstream.wire.records import NewRecord


def configuration_record(
    config: Configuration, *, replaces: ConfigHash | None, number: int
) -> NewRecord | None:
    """The record that has ``config`` take the place of ``replaces``, the configuration ``number`` in force.

    None where it is in force already. ``replaces`` None, ``number`` 0: none is in force.
    """
    if config.hash == replaces:
        return None
    body = ConfigApplied(
        text=config.text, hash=config.hash, replaces=replaces, fold=FOLD_VERSION, number=number + 1
    )
    return NewRecord(key=None, value=encode(body))


def check_succession(event: ConfigApplied, *, replaces: ConfigHash | None, number: int) -> int:
    """The number that ``event`` has in the place of ``replaces``, the configuration ``number`` in force.

    An event without a number is the next one. Where none is in force any number is taken: the log may have
    lost its beginning.

    Raises:
        DecodeError: it was made to follow another configuration, or is one of before that was appended anew.
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
