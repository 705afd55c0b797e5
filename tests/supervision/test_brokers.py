"""The supervisor's check for a broker always has a result."""

from __future__ import annotations

import socket
import threading

import pytest

from triggerstream.supervision import brokers


def looked_up(*addresses: str) -> bool:
    """The result of a check, which comes from a thread of its own."""
    results: list[bool] = []
    there = threading.Event()

    def found(accepts: bool) -> None:  # noqa: FBT001 - the callback's signature
        results.append(accepts)
        there.set()

    brokers.look_up(addresses, found)
    assert there.wait(timeout=30)
    return results == [True]


def test_a_broker_that_accepts_is_found_beside_addresses_that_are_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert looked_up("127.0.0.1:1", "no port", "127.0.0.1:999999", f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.0.0.1:999999", "127.0.0.1:-1", "no port", "\ud800:1", ""]
)
def test_an_address_that_cannot_be_connected_to_is_no_broker(address: str) -> None:
    assert not looked_up(address)


def test_a_check_that_fails_itself_has_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("triggerstream.supervision.brokers.selectors.DefaultSelector", fail)
    assert not looked_up("127.0.0.1:1")


def test_a_check_without_a_thread_has_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert not looked_up("127.0.0.1:1")
