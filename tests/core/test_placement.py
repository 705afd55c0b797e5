"""Sessions lie where Kafka's Java client puts their keys."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.placement import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
        # librdkafka, rdmurmur2.c
        (b"kafka", -798503068),
    ],
)
def test_the_hash_is_that_of_the_java_client(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


@pytest.mark.laws
@given(st.binary(max_size=64))
def test_the_hash_is_that_of_aiokafka(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) % 2**32


@pytest.mark.parametrize("length", range(9))
def test_every_length_of_the_last_word_is_hashed_alike(length: int) -> None:
    key = b"\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff"[:length]
    assert murmur2(key) == aiokafka_murmur2(key) % 2**32


@given(st.binary(max_size=64), st.integers(min_value=1, max_value=1_000))
def test_a_partition_is_one_of_those_there_are(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


@pytest.mark.parametrize(("key", "partition"), [(b"21", 0), (b"foobar", 6), (b"abc", 3)])
def test_the_sign_of_a_hash_is_masked_not_negated(key: bytes, partition: int) -> None:
    assert partition_of(key, 12) == partition
