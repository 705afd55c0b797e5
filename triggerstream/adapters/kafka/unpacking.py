"""Unpacks compressed record batches within a bound, because 1 MiB may unpack to gigabytes of zeros."""

from __future__ import annotations

import struct
import zlib
from mmap import mmap

import cramjam
from aiokafka.codec import _detect_xerial_stream

UNPACKED_BYTES = 64 * 1024 * 1024
"""The records of one batch. The events topic takes 1 MiB packed; events in JSON, which repeat themselves, are
packed to a tenth or a thirtieth of that, and the longest record of ours, a state, has 16 MiB unpacked."""
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODECS = {GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}

_GZIP_PIECE = 1024 * 1024
_WITH_GZIP_HEAD = 16 + zlib.MAX_WBITS
_XERIAL_HEAD_BYTES = 16
_FULL = "failed to write whole buffer"
"""The message of cramjam's lz4 and zstd if the room is too small. The error has no other sign."""
_BLOCK = struct.Struct(">i")


class UnpackError(Exception):
    """A batch cannot be unpacked within the bound. If its CRC is right, its producer has written it so."""


def unpack(codec: int, packed: memoryview, *, head: bytearray, most: int | None = None) -> bytearray:
    """``head``, followed by the unpacked ``packed``. No more than that is ever allocated.

    ``most``: None means ``UNPACKED_BYTES``.

    Raises:
        UnpackError: it is longer than ``most`` bytes, or ``codec`` cannot unpack it.
    """
    most = UNPACKED_BYTES if most is None else most
    try:
        if codec == GZIP:
            return _gunzip(packed, head, most)
        if codec == SNAPPY:
            return _unsnap(packed, head, most)
        return _stream(codec, packed, head, most)
    except OverflowError as exc:
        raise _too_large(codec, most) from exc
    except (cramjam.DecompressionError, zlib.error, struct.error) as exc:
        if str(exc) == _FULL:
            raise _too_large(codec, most) from exc
        raise UnpackError(f"its records cannot be decompressed ({CODECS[codec]}): {exc}") from exc


def _too_large(codec: int, most: int) -> UnpackError:
    return UnpackError(f"its records decompress to more than {most:,} bytes ({CODECS[codec]})")


def _gunzip(packed: memoryview, head: bytearray, most: int) -> bytearray:
    """Unpack all members in order. Other bytes after them are ignored, as brokers do."""
    found, rest = bytearray(head), bytes(packed)
    while rest:
        begun = len(found)
        try:
            rest = _member(rest, found, len(head) + most)
        except zlib.error:
            if begun == len(head):
                raise
            del found[begun:]
            break
    return found


def _member(packed: bytes, found: bytearray, end: int) -> bytes:
    """Unpack the first member of ``packed`` to ``found``, up to position ``end``.

    Returns the bytes after it.
    """
    unpacking = zlib.decompressobj(_WITH_GZIP_HEAD)
    while not unpacking.eof:
        piece = unpacking.decompress(packed, _GZIP_PIECE)
        packed = unpacking.unconsumed_tail
        if len(found) + len(piece) > end:
            raise OverflowError
        found += piece
        if not (piece or packed or unpacking.eof):
            raise zlib.error("it is cut off")
    return unpacking.unused_data


def _unsnap(packed: memoryview, head: bytearray, most: int) -> bytearray:
    """Unpack one block, or several with length prefixes, as Java clients write.

    Each states its unpacked length.
    """
    if not _detect_xerial_stream(packed):
        blocks = [packed]
    else:
        blocks, at = [], _XERIAL_HEAD_BYTES
        while at < len(packed):
            (length,) = _BLOCK.unpack_from(packed, at)
            at += _BLOCK.size
            if not 0 <= length <= len(packed) - at:
                raise struct.error(f"a block has {length} bytes")
            blocks.append(packed[at : at + length])
            at += length
    lengths = [cramjam.snappy.decompress_raw_len(bytes(block[:10])) for block in blocks]
    if sum(lengths) > most:
        raise OverflowError
    found = bytearray(len(head) + sum(lengths))
    found[: len(head)] = head
    place, view = len(head), memoryview(found)
    for block, length in zip(blocks, lengths, strict=True):
        cramjam.snappy.decompress_raw_into(block, view[place : place + length])
        place += length
    return found


def _stream(codec: int, packed: memoryview, head: bytearray, most: int) -> bytearray:
    """Unpack a stream that does not say its length, of at most ``most`` bytes; unused room is free."""
    into = cramjam.lz4.decompress_into if codec == LZ4 else cramjam.zstd.decompress_into
    found = bytearray(head)
    with mmap(-1, most) as room, memoryview(room) as view:
        length = into(packed, view)
        with view[:length] as used:
            found += used
    return found
