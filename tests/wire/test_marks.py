"""The mark of a checkpoint: what it says comes back, and a damaged one is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import AppId, ConfigHash
from triggerstream.core.tasks import AppliedConfiguration, Rules
from triggerstream.wire import tasksfile
from triggerstream.wire.engine_events import text_hash
from triggerstream.wire.json import as_object, dumps, loads
from triggerstream.wire.marks import (
    CheckpointMark,
    Identity,
    IdentityError,
    InForce,
    check_identity,
    check_version,
    decode_checkpoint,
    encode_checkpoint,
    in_force,
    same_writing,
)

IDENTITY = Identity(cluster="c", topic="t", partitions=3, owners="o")
OFFSETS = st.integers(0, 2**62)
CONFIGURATIONS = st.builds(
    InForce,
    offset=st.integers(-1, 2**62),
    number=OFFSETS,
    hash=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64).map(ConfigHash),
)
MARKS = st.builds(
    CheckpointMark,
    offset=OFFSETS,
    identity=st.builds(
        Identity, cluster=st.text(min_size=1), topic=st.text(min_size=1), partitions=st.integers(1, 9_999)
    ),
    configuration=st.none() | CONFIGURATIONS,
    scanned=st.integers(-1, 2**62),
    rebuilt=st.integers(-1, 2**62),
    fold=st.integers(1, 99),
)


@given(MARKS)
def test_a_mark_comes_back_from_bytes(mark: CheckpointMark) -> None:
    assert decode_checkpoint(encode_checkpoint(mark)) == mark


def test_a_mark_of_an_earlier_release_has_no_rebuild_and_was_folded_by_version_1() -> None:
    fields = as_object(loads(encode_checkpoint(CheckpointMark(offset=5, identity=IDENTITY, fold=7))), "")
    del fields["fold"], fields["configuration"]
    former = CheckpointMark(offset=5, identity=IDENTITY, version=1)
    assert decode_checkpoint(dumps({**fields, "version": 1})) == former
    given_as_null = dumps({**fields, "fold": None, "rebuilt": None})
    assert decode_checkpoint(given_as_null) == CheckpointMark(offset=5, identity=IDENTITY)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 4}, "/version: 4 is newer than this release, which reads up to 3"),
        ({"version": 0}, "/version: "),
        ({"offset": -1}, "/offset: "),
        ({"partitions": 0}, "/partitions: "),
        ({"cluster": None}, "/cluster: "),
        ({"topic": 7}, "/topic: "),
        ({"scanned": -2}, "/scanned: "),
        ({"rebuilt": -1}, "/rebuilt: "),
        ({"fold": -1}, "/fold: "),
        ({"configuration": 7}, "/configuration"),
        ({"configuration": {"offset": -2, "number": 0}}, "/configuration/offset: "),
        ({"configuration": {"offset": 0, "number": -1}}, "/configuration/number: "),
        ({"configuration": {"offset": 0, "number": 1, "hash": 5}}, "/configuration/hash: "),
    ],
    ids=str,
)
def test_a_damaged_mark_is_named_with_its_place(change: dict[str, object], says: str) -> None:
    fields = loads(encode_checkpoint(CheckpointMark(offset=5, identity=IDENTITY)))
    assert isinstance(fields, dict)
    with pytest.raises(DecodeError) as refused:
        decode_checkpoint(dumps(fields | change))
    assert str(refused.value).startswith(says)


def test_a_mark_that_is_no_object_is_named_so() -> None:
    with pytest.raises(DecodeError) as refused:
        decode_checkpoint(b"[]")
    assert str(refused.value) == ": must be an object, is an array"


def test_a_mark_names_the_configuration_in_force() -> None:
    text = '{"t": {"after": ["a"], "run": "r"}}'
    applied = AppliedConfiguration(config=tasksfile.read(text, name="t"), offset=0, arrival_us=7, number=4)
    rules = Rules(app=AppId("app"))
    assert in_force(rules) == InForce(offset=-1, number=0, hash=None)
    assert in_force(rules.apply(applied)) == InForce(offset=0, number=4, hash=text_hash(text))


def test_a_rebuild_between_two_checkpoints_is_seen() -> None:
    never, first, second = (
        encode_checkpoint(CheckpointMark(offset=5, identity=IDENTITY, rebuilt=rebuilt))
        for rebuilt in (-1, 0, 9)
    )
    assert same_writing(never, None)
    assert same_writing(never, never)
    assert same_writing(first, first)
    assert not same_writing(first, None)
    assert not same_writing(first, never)
    assert not same_writing(second, first)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            Identity(cluster="c", topic="t", partitions=4),
            "made with 3 partitions, the topic has 4: sessions would be split; repair it",
        ),
        (
            Identity(cluster="c", topic="u", partitions=3),
            "id t of cluster c, this is topic id u of cluster c: offsets mean nothing there; repair it",
        ),
        (
            Identity(cluster="d", topic="t", partitions=3),
            "id t of cluster c, this is topic id t of cluster d: offsets mean nothing there; repair it",
        ),
        (
            Identity(cluster="c", topic="t", partitions=3, owners="p"),
            "topic now is topic id p: an owner may be at work that nobody can find there; repair it",
        ),
    ],
    ids=["partitions", "topic", "cluster", "owners"],
)
def test_another_log_is_named_by_what_differs(found: Identity, says: str) -> None:
    mark = CheckpointMark(offset=5, identity=IDENTITY)
    check_identity(mark, IDENTITY, place="partition 1")
    with pytest.raises(IdentityError) as refused:
        check_identity(mark, found, place="partition 1", repair="; repair it")
    with pytest.raises(IdentityError) as bare:
        check_identity(mark, found, place="partition 1")
    assert f"{bare.value}; repair it" == str(refused.value)
    assert str(refused.value).startswith("partition 1: its checkpoint ")
    assert str(refused.value).endswith(says)


def test_an_owners_topic_that_is_not_known_is_not_compared() -> None:
    unknown = Identity(cluster="c", topic="t", partitions=3)
    check_identity(CheckpointMark(offset=5, identity=IDENTITY), unknown, place="partition 1")
    check_identity(CheckpointMark(offset=5, identity=unknown), IDENTITY, place="partition 1")


def test_a_version_is_read_up_to_the_known_one() -> None:
    check_version(2, known=2)
    with pytest.raises(DecodeError, match=r"^/version: 3 is newer than this release, which reads up to 2$"):
        check_version(3, known=2)


def test_a_mark_of_a_partition_without_a_configuration_comes_back_from_bytes() -> None:
    mark = CheckpointMark(offset=0, identity=IDENTITY, configuration=InForce())
    assert decode_checkpoint(encode_checkpoint(mark)) == mark
