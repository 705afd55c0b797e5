"""Claims as the owners topic has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.ids import AppId
from triggerstream.wire.claims import Claim, OwnerId, decode_claim, encode_claim, is_owner_id
from triggerstream.wire.json import as_object, dumps, loads

ID = OwnerId("app-w-1")
CLAIM = Claim(id=ID, partitions=frozenset({3, 0}), host="here", pid=7, since_us=5, generation=2)

claims = st.builds(
    Claim,
    id=st.just(ID),
    partitions=st.frozensets(st.integers(0, 10_000)),
    host=st.text(st.characters(codec="utf-8")),
    pid=st.integers(0, 2**31),
    since_us=st.integers(0, 2**53),
    generation=st.integers(-1, 2**31),
)


@given(claims)
def test_a_claim_is_read_as_it_was_written(claim: Claim) -> None:
    assert decode_claim(ID, encode_claim(claim)) == claim


def test_a_claim_has_the_version_of_its_form() -> None:
    assert as_object(loads(encode_claim(CLAIM)), "") == {
        "version": 1,
        "partitions": [0, 3],
        "host": "here",
        "pid": 7,
        "since": 5,
        "generation": 2,
    }


@given(st.binary())
def test_any_other_bytes_are_a_claim_of_any_partition(value: bytes) -> None:
    claim = decode_claim(ID, value)
    assert claim.id == ID
    assert claim.partitions is None


def test_a_claim_of_a_newer_release_is_that_of_its_partitions() -> None:
    fields = as_object(loads(encode_claim(CLAIM)), "")
    claim = decode_claim(ID, dumps({**fields, "version": 2, "host": {"name": 1}, "pid": None, "since": "x"}))
    assert claim == Claim(id=ID, partitions=CLAIM.partitions, generation=2)


def test_a_claim_whose_generation_cannot_be_read_is_that_of_a_process_without_a_group() -> None:
    fields = as_object(loads(encode_claim(CLAIM)), "")
    assert decode_claim(ID, dumps({**fields, "generation": "2"})).generation == -1


def test_a_claim_whose_partitions_cannot_be_read_may_be_that_of_any() -> None:
    fields = as_object(loads(encode_claim(CLAIM)), "")
    for found in ([-1], None, [True], ["0"], 3):
        claim = decode_claim(ID, dumps({**fields, "partitions": found}))
        assert claim.partitions is None
        assert claim.names([5])


def test_a_claim_names_its_partitions() -> None:
    assert CLAIM.names([0])
    assert CLAIM.names([1, 3])
    assert not CLAIM.names([1, 2])
    assert not CLAIM.names([])


def test_ids_of_other_apps_are_none_of_an_app() -> None:
    assert is_owner_id(AppId("app"), ID)
    assert not is_owner_id(AppId("ap"), ID)
    assert not is_owner_id(AppId("other"), ID)
