"""The key of all workers: what it proves, to whom, for how long, and the file that has it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.web.peerkey import LONGEST_S, PeerKey, PeerRefusedError, PeerRequest, read_peer_key

APP = AppId("app")
ASKED = PeerRequest(url="http://w-1:6066", method="GET", path="/v1/sessions?limit=3&here=1")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def key(clock: Clock, secret: bytes = bytes(range(32))) -> PeerKey:
    return PeerKey(secret, app=APP, clock=clock)


def test_a_request_is_good_for_what_it_asks() -> None:
    clock = Clock()
    header, nonce = key(clock).authorization(ASKED)
    assert re.fullmatch(r"Triggerstream-Peer \d+\.[0-9a-f]{32}\.[0-9a-f]{64}", header)
    assert key(clock).check(header, ASKED) == nonce
    assert key(clock).authorization(ASKED)[1] != nonce


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, url="http://w-2:6066"),
        replace(ASKED, method="POST"),
        replace(ASKED, path="/v1/sessions?limit=4&here=1"),
        replace(ASKED, url="http://w-1:606", path="6/v1/sessions?limit=3&here=1"),
    ],
)
def test_a_captured_request_is_good_for_nothing_else(other: PeerRequest) -> None:
    clock = Clock()
    header, _ = key(clock).authorization(ASKED)
    with pytest.raises(PeerRefusedError, match="not made with this worker's peer key"):
        key(clock).check(header, other)


def test_a_captured_request_is_over_soon() -> None:
    clock = Clock()
    header, _ = key(clock).authorization(ASKED)
    clock.now += LONGEST_S
    with pytest.raises(PeerRefusedError, match="clocks"):
        key(clock).check(header, ASKED)


def test_a_request_cannot_be_made_for_a_later_time() -> None:
    ahead, clock = Clock(), Clock()
    ahead.now += LONGEST_S
    header, _ = key(ahead).authorization(ASKED)
    with pytest.raises(PeerRefusedError, match="clocks"):
        key(clock).check(header, ASKED)
    expiry, rest = header.removeprefix("Triggerstream-Peer ").split(".", 1)
    with pytest.raises(PeerRefusedError, match="not made"):
        key(clock).check(f"Triggerstream-Peer {int(expiry) - 20}.{rest}", ASKED)


@pytest.mark.parametrize(
    "header",
    ["", "Triggerstream-Peer", "Triggerstream-Peer x", f"Triggerstream-Peer 1.{'0' * 32}.", "Bearer x"],
)
def test_what_is_no_proof_is_refused(header: str) -> None:
    with pytest.raises(PeerRefusedError):
        key(Clock()).check(header, ASKED)


def test_an_answer_is_proven_for_its_request_status_and_body_only() -> None:
    made = key(Clock())
    proof = made.answer_mac("n" * 32, 200, b"body")
    assert made.is_answer(proof, nonce="n" * 32, status=200, body=b"body")
    for nonce, status, body in (("m" * 32, 200, b"body"), ("n" * 32, 404, b"body"), ("n" * 32, 200, b"bod")):
        assert not made.is_answer(proof, nonce=nonce, status=status, body=body)
    assert not made.is_answer("é", nonce="n" * 32, status=200, body=b"body")
    other = key(Clock(), bytes(32)).answer_mac("n" * 32, 200, b"body")
    assert not made.is_answer(other, nonce="n" * 32, status=200, body=b"body")


def test_keys_for_other_purposes_differ() -> None:
    made = key(Clock())
    assert len({made.derived("forms"), made.derived("logins"), key(Clock(), bytes(32)).derived("forms")}) == 3


@pytest.mark.parametrize(
    "content",
    [bytes(range(32)), b"\xff" * 40, bytes(range(32)).hex().encode(), b" " + b"AB" * 32 + b"\r\n"],
)
def test_a_key_is_32_bytes_as_they_are_or_in_hex(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "peer.key"
    path.write_bytes(content)
    path.chmod(0o600)
    header, _ = read_peer_key(path, app=APP).authorization(ASKED)
    assert read_peer_key(path, app=APP).check(header, ASKED)


def test_bytes_and_hex_are_the_same_key(tmp_path: Path) -> None:
    header = ""
    for content in (bytes(range(32)), bytes(range(32)).hex().encode() + b"\n"):
        path = tmp_path / "peer.key"
        path.write_bytes(content)
        path.chmod(0o600)
        if header:
            read_peer_key(path, app=APP).check(header, ASKED)
        header, _ = read_peer_key(path, app=APP).authorization(ASKED)


@pytest.mark.parametrize("content", [b"", b"\xff" * 31, b"ab" * 31, b"ab" * 20, b"a" * 65, b"\n"])
def test_a_key_that_is_too_short_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "peer.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=f"^{path}: a peer key has at least 32 bytes: .*rand -hex 32"):
        read_peer_key(path, app=APP)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "peer.key"
    path.write_bytes(bytes(range(32)))
    path.chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        read_peer_key(path, app=APP)
