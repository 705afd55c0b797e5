"""What a worker announces of its pages, and what others make of that."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.web.peerkey import PeerKey
from triggerstream.web.view import PORT, PageSettings, WebView, peer_group

MACHINE = socket.gethostname()
APP = AppId("app")
KEY = PeerKey(bytes(range(32)), app=APP)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "peer.key"
    path.write_bytes(bytes(range(32)))
    path.chmod(0o600)
    return path


def view(
    *,
    host: str = "127.0.0.1",
    port: int | None = 0,
    url: str | None = None,
    lasting: bool = False,
    peer_key: Path | None = None,
) -> WebView:
    return WebView(
        PageSettings(
            app=APP,
            host=host,
            port=port,
            peer_key=peer_key,
            url=url,
            directory=Path("unused"),
            lasting=lasting,
        )
    )


def test_without_a_key_it_announces_an_address_that_nobody_connects_to() -> None:
    made = view()
    assert made.url == f"{made.address}/?on={MACHINE}"
    for key in (None, KEY):
        (worker,) = peer_group({3: made.url}, key).others.values()
        assert worker.url is None
    made.close()


def test_it_announces_where_it_listens_and_on_which_machine_and_proves_it(key_file: Path) -> None:
    made = view(peer_key=key_file)
    assert made.url is not None
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", made.address)
    assert KEY.proven(made.url) == f"{made.address}/?on={MACHINE}"
    (worker,) = peer_group({3: made.url}, KEY).others.values()
    assert (worker.name, worker.url) == (made.address, made.address)
    made.close()


def test_it_announces_the_address_that_it_was_given() -> None:
    made = view(url="http://w-0.workers:6066", lasting=True)
    assert made.url == f"http://w-0.workers:6066/?on={MACHINE}"
    made.close()


def test_one_with_a_name_announces_nothing_that_may_change() -> None:
    """The group gives it its last assignment again, with the address that it had."""
    made = view(lasting=True)
    assert made.url is None
    made.close()


def test_one_with_a_name_announces_a_port_that_it_keeps() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = view(port=port, lasting=True)
    assert made.url == f"http://127.0.0.1:{port}/?on={MACHINE}"
    made.close()


def test_without_a_port_it_takes_a_free_one_where_the_usual_one_is_taken() -> None:
    first, second = view(port=None), view(port=None)
    assert first.address != second.address
    assert not second.address.endswith(f":{PORT}")
    first.close()
    second.close()


def test_a_port_that_is_taken_is_refused_in_a_line() -> None:
    first = view()
    port = int(first.address.rpartition(":")[2])
    with pytest.raises(UsageError, match=rf"^--web-host 127.0.0.1 --web-port {port}: .*--without-web$"):
        view(port=port)
    first.close()


@pytest.mark.parametrize("url", ["ftp://x", "w-0:6066", "http://", "http://w:99999"])
def test_an_address_that_is_none_is_refused_in_a_line(url: str) -> None:
    with pytest.raises(UsageError, match=f"^--web-url {url}: write http"):
        view(url=url)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - refused
def test_other_machines_are_let_in_with_tokens_only(host: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^--web-host {host}: "):
        view(host=host)
    with pytest.raises(UsageError, match=str(tmp_path / "none")):
        WebView(PageSettings(app=APP, host=host, port=0, tokens=tmp_path / "none", directory=tmp_path))


def test_a_worker_that_cannot_be_reached_is_there_with_a_reason() -> None:
    others = peer_group(
        {
            0: KEY.announced("http://127.0.0.1:6066/?on=elsewhere"),
            1: "http://w-1:1",
            2: KEY.announced("http://w-2:6066/?on=w-2"),
        },
        KEY,
    )
    away, blind, seen = (others.others[number] for number in range(3))
    assert (away.url, away.says) == (None, "its pages are for its own machine only")
    assert away.name == "http://127.0.0.1:6066 on elsewhere"
    assert (blind.url, blind.says) == (None, "it has no pages that others can reach")
    assert (seen.url, seen.says) == ("http://w-2:6066", None)


PROVEN = KEY.announced("http://w-2:6066/?on=w-2")


@pytest.mark.parametrize(
    "announced",
    [
        "http://evil:6066/?on=w-2",
        f"http://evil:6066/?on=w-2&mac={'0' * 64}",
        PROVEN.replace("w-2:6066", "evil:6066"),
        PROVEN.replace("6066", "6067"),
        PROVEN.replace("on=w-2", "on=w-3"),
        PROVEN.replace("http", "https"),
        PROVEN.replace("/?", "/more?"),
        f"{PROVEN}&x=1",
        f"{PROVEN}0",
        PeerKey(bytes(32), app=APP).announced("http://w-2:6066/?on=w-2"),
        PeerKey(bytes(range(32)), app=AppId("another")).announced("http://w-2:6066/?on=w-2"),
        "http://[",
        "",
        "\udcff",
    ],
)
def test_an_address_that_the_key_does_not_prove_is_never_connected_to(announced: str) -> None:
    (worker,) = peer_group({0: announced}, KEY).others.values()
    assert worker.url is None
    assert worker.says is not None
    assert not worker.name.startswith("http")
