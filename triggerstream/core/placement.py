"""Computes the partition that a session belongs to."""

from __future__ import annotations

from struct import Struct

_WORD = Struct("<I")
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The 32-bit hash that Kafka's Java client partitions by (``org.apache.kafka.common.utils.Utils``)."""
    length = len(key)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for (k,) in _WORD.iter_unpack(key[:whole]):
        k = k * _M & _MASK  # noqa: PLW2901 - the algorithm's own step
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    rest = key[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h ^= h >> 13
    h = h * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, of ``partitions``, that holds the session with this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
