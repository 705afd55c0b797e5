"""Entries of a partition's changelog about the partition itself, under keys that no session can have.

``checkpoint``   {offset, configuration, partitions, cluster, topic, owners, scanned, rebuilt, fold}: written
                 by every transaction

The history of configurations is in :mod:`triggerstream.engine.partitioned.versions`. Both are part of the
transaction that they describe, so a reader at the changelog's end has a consistent snapshot of states, offset
and configurations.
"""

from __future__ import annotations

from dataclasses import dataclass

from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import ConfigHash, JsonObject
from triggerstream.core.tasks import Rules
from triggerstream.wire.json import as_object, dumps, integer, loads, optional_integer, optional_text, text_of

RESERVED = b"\x00"
"""The first byte of every key that is no session's."""
CHECKPOINT_KEY = RESERVED + b"checkpoint"
MARK_VERSION = 3
"""Format of the checkpoint. Format 1 had the history in one record, format 2 was written by releases without
claims; this release reads both."""
CLAIMED_MARK_VERSION = 3
"""The first format whose owners have claims (:mod:`triggerstream.engine.partitioned.claims`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Identity of the log that a checkpoint belongs to.

    ``topic`` is the id that the cluster gave to the topic, ``owners`` that of the owners topic (empty: not
    known).
    """

    cluster: str
    topic: str
    partitions: int
    owners: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The configuration in force in a partition: its offset, number and hash (None: no configuration)."""

    offset: int = -1
    number: int = 0
    hash: ConfigHash | None = None


def in_force(rules: Rules) -> InForce:
    """The configuration in force in ``rules``."""
    current = rules.current
    if current.offset < 0:
        return InForce()
    return InForce(offset=current.offset, number=current.number, hash=current.config.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMark:
    """The checkpoint of a partition. ``offset``: the next to read. ``configuration``: the one in force.

    ``scanned``: the configuration for which all sessions were evaluated.
    ``rebuilt``: the changelog's position at which the newest rebuild began; -1: there was none. A copy of the
    changelog whose own mark has another value is older than the rebuild, and must not be used.

    ``fold``: the oldest version of the fold with which the states were folded. ``version``: the format in
    which it was written.
    """

    offset: int
    identity: Identity
    configuration: InForce | None = None
    scanned: int = -1
    rebuilt: int = -1
    fold: int = 1
    version: int = MARK_VERSION


class IdentityError(UsageError):
    """The checkpoint belongs to another log. Nothing may be decided from this one."""


def check_identity(mark: CheckpointMark, found: Identity, *, place: str, repair: str = "") -> None:
    """Raise if ``found`` is another log than the checkpoint's.

    Raises:
        IdentityError: it is; the message says which part, and ends with ``repair``.
    """
    kept = mark.identity
    if kept.partitions != found.partitions:
        raise IdentityError(
            f"{place}: its checkpoint was made with {kept.partitions} partitions, the topic has "
            f"{found.partitions}: sessions would be split{repair}"
        )
    if kept.topic != found.topic or kept.cluster != found.cluster:
        raise IdentityError(
            f"{place}: its checkpoint belongs to topic id {kept.topic} of cluster {kept.cluster}, this is "
            f"topic id {found.topic} of cluster {found.cluster}: offsets mean nothing there{repair}"
        )
    if kept.owners and found.owners and kept.owners != found.owners:
        raise IdentityError(
            f"{place}: its checkpoint was made with the claims in topic id {kept.owners}, the owners topic "
            f"now is topic id {found.owners}: an owner may be at work that nobody can find there{repair}"
        )


def encode_checkpoint(mark: CheckpointMark) -> bytes:
    """``mark`` as the value under ``CHECKPOINT_KEY``."""
    current = mark.configuration
    configuration: JsonObject | None = None
    if current is not None:
        configuration = {"offset": current.offset, "number": current.number, "hash": current.hash}
    return dumps(
        {
            "version": MARK_VERSION,
            "offset": mark.offset,
            "configuration": configuration,
            "partitions": mark.identity.partitions,
            "cluster": mark.identity.cluster,
            "topic": mark.identity.topic,
            "owners": mark.identity.owners,
            "scanned": mark.scanned,
            "fold": mark.fold,
            **({} if mark.rebuilt < 0 else {"rebuilt": mark.rebuilt}),
        }
    )


def decode_checkpoint(value: bytes) -> CheckpointMark:
    """Decode a checkpoint mark.

    Raises:
        DecodeError: it is invalid, or has a version that this release does not know.
    """
    fields = as_object(loads(value), "")
    version = integer(fields, "version", minimum=1)
    check_version(version, known=MARK_VERSION)
    return CheckpointMark(
        offset=integer(fields, "offset"),
        identity=Identity(
            cluster=text_of(fields, "cluster"),
            topic=text_of(fields, "topic"),
            partitions=integer(fields, "partitions", minimum=1),
            owners=optional_text(fields, "owners") or "",
        ),
        configuration=_configuration(fields),
        scanned=integer(fields, "scanned", minimum=-1),
        rebuilt=-1 if (rebuilt := optional_integer(fields, "rebuilt")) is None else rebuilt,
        fold=1 if (fold := optional_integer(fields, "fold")) is None else fold,
        version=version,
    )


def _configuration(fields: JsonObject) -> InForce | None:
    found = fields.get("configuration")
    if found is None:
        return None
    place = "/configuration"
    entry = as_object(found, place)
    return InForce(
        offset=integer(entry, "offset", place, minimum=-1),
        number=integer(entry, "number", place),
        hash=None if entry.get("hash") is None else ConfigHash(text_of(entry, "hash", place)),
    )


def same_writing(mark: bytes, known: bytes | None) -> bool:
    """True if there was no rebuild between two checkpoints.

    ``known`` is the older one; None if there is none.

    Raises:
        DecodeError: one of them is invalid.
    """
    before = -1 if known is None else decode_checkpoint(known).rebuilt
    return decode_checkpoint(mark).rebuilt == before


def check_version(version: int, *, known: int) -> None:
    """Raise if ``version`` is newer than ``known``, the newest one of this release.

    Raises:
        DecodeError: it is newer.
    """
    if version > known:
        raise DecodeError(f"/version: {version} is newer than this release, which reads up to {known}")
