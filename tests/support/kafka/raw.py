"""Record batches as bytes, for what no client library writes: aiokafka's producer takes UTF-8 names alone."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint

from triggerstream.adapters.kafka.connection import Connection

_HEAD = struct.Struct(">qiibIhiqqqhii")
_MAGIC_AT = struct.calcsize(">qii")
_CRC_AT = struct.calcsize(">qiib")
_ATTRIBUTES_AT = struct.calcsize(">qiibI")
_LAST_AT = struct.calcsize(">qiibIh")
_OVERHEAD = struct.calcsize(">qi")
_LEADER_S = 30.0
"""A topic that was only just made may have no leader yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """A record; the names of its headers are bytes."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = ()


def batch(records: Sequence[RawRecord], *, base: int = 0, attributes: int = 0) -> bytes:
    """A record batch of format 2 with ``records``."""
    body = b"".join(_record(number, record) for number, record in enumerate(records))
    last = len(records) - 1
    length = _HEAD.size - _OVERHEAD + len(body)
    head = _HEAD.pack(
        base, length, -1, 2, 0, attributes, last, 1_700_000_000_000, 1_700_000_000_000, -1, -1, -1, last + 1
    )
    return sealed(head + body)


def sealed(data: bytes) -> bytes:
    """``data``, one batch, with the CRC that belongs to it."""
    crc = struct.pack(">I", calc_crc32c(data[_ATTRIBUTES_AT:]))
    return data[:_CRC_AT] + crc + data[_ATTRIBUTES_AT:]


def packed(data: bytes, codec: int, pack: Callable[[bytes], bytes] | None = None) -> bytes:
    """``data``, one batch, its records compressed, perhaps by ``pack``: 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
    head, body = data[: _HEAD.size], (pack or _PACK[codec])(data[_HEAD.size :])
    length = struct.pack(">i", len(head) - _OVERHEAD + len(body))
    attributes = struct.pack(">h", struct.unpack_from(">h", head, _ATTRIBUTES_AT)[0] | codec)
    after = _ATTRIBUTES_AT + len(attributes)
    return sealed(head[:8] + length + head[12:_ATTRIBUTES_AT] + attributes + head[after:] + body)


_PACK: dict[int, Callable[[bytes], bytes]] = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}


def damage(
    folder: Path, topic: str, partition: int, text: bytes, how: str, *, newest: bool = False
) -> tuple[int, int]:
    """Damage the first or the ``newest`` batch of a partition with ``text``, as a disk would.

    Returns its first and last offset.

    ``how``: ``checksum`` changes its records, ``compression`` says with a right CRC that they are compressed,
    ``format`` changes the number of its format, ``header`` overwrites its whole header with zeros,
    ``last`` changes the number of its last offset.
    """
    (segment,) = folder.rglob(f"{topic}-{partition}/*.log")
    data, at, found = segment.read_bytes(), 0, list[tuple[int, bytes]]()
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        whole = data[at : at + _OVERHEAD + length]
        if text in whole:
            found.append((at, whole))
        at += len(whole)
    at, whole = found[-1 if newest else 0]
    base, _, _, magic, _, attributes, delta, *_ = _HEAD.unpack_from(whole)
    damaged = bytearray(whole)
    if how == "checksum":
        damaged[whole.index(text)] ^= 1
    elif how == "compression":
        struct.pack_into(">h", damaged, _ATTRIBUTES_AT, attributes | 4)
        damaged = bytearray(sealed(bytes(damaged)))
    elif how == "last":
        damaged[_LAST_AT] ^= 0x55
    elif how == "header":
        damaged[: _HEAD.size] = bytes(_HEAD.size)
    else:
        damaged[_MAGIC_AT] = magic + 3
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(damaged)
    return base, base + delta


async def produce(connection: Connection, topic: str, partition: int, data: bytes) -> int:
    """Append ``data``, one batch, as it is; the offset of its first record."""
    request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, data)])])
    async with asyncio.timeout(_LEADER_S), connection.client() as client:
        await client.set_topics([topic])
        while True:
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is not None and leader >= 0:
                answer = await client.send(leader, request)
                ((_, ((_, code, offset, *_rest),)),) = answer.topics
                if not code:
                    return int(offset)
                if not (error := for_code(code)).retriable:
                    raise error(f"{topic} {partition}")
            await client.force_metadata_update()


def _record(number: int, record: RawRecord) -> bytes:
    data = bytearray(b"\0\0")  # attributes, timestamp delta
    encode_varint(number, data.append)
    _bytes(data, record.key)
    _bytes(data, record.value)
    encode_varint(len(record.headers), data.append)
    for name, value in record.headers:
        _bytes(data, name)
        _bytes(data, value)
    whole = bytearray()
    encode_varint(len(data), whole.append)
    return bytes(whole + data)


def _bytes(data: bytearray, value: bytes | None) -> None:
    encode_varint(-1 if value is None else len(value), data.append)
    data += value or b""
