"""The supervisor with children that follow a script: real processes, real signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.support.ports import free_port
from tests.support.supervised import lives
from tests.support.waiting import wait_until
from triggerstream.supervision.answers import MOST_CLIENTS

RSS_KIB = 20 * 1024


class Supervised:
    """A supervisor that runs ``plan``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, plan: str, brokers: str | None = None, *, failpoint: str | None = None) -> None:
        command = [sys.executable, "-m", "tests.supervision.scripted", str(self.folder), plan]
        variables = {"TRIGGERSTREAM_FAILPOINT": failpoint} if failpoint else {}
        with self.output.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, *([brokers] if brokers else [])],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **variables},
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def text(self) -> str:
        return self.output.read_text()

    def starts(self) -> list[list[str]]:
        file = self.folder / "starts"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def child(self) -> int:
        return int(self.starts()[-1][0])

    def await_starts(self, count: int) -> None:
        wait_until(lambda: len(self.starts()) >= count, what=self.text)

    def await_waiting(self, times: int = 1) -> None:
        wait_until(lambda: self.text().count("waiting for Kafka") >= times, what=self.text)

    def await_running(self) -> None:
        wait_until((self.folder / "running").exists, what=self.text)

    def status(self) -> int:
        assert self.process is not None
        return self.process.wait(60)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def address(self) -> tuple[str, int]:
        host, _, port = (self.folder / "url").read_text().removeprefix("http://").rpartition(":")
        return host, int(port)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen((self.folder / "url").read_text() + path, timeout=60) as found:  # noqa: S310 - the test's own
                return found.status, found.read().decode()
        except HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    made = Supervised(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("status", [0, 1, 2, 71])
def test_a_status_that_no_restart_cures_is_passed_on(supervised: Supervised, status: int) -> None:
    supervised.start(str(status))
    assert supervised.status() == status
    assert len(supervised.starts()) == 1
    assert supervised.text() == ""


def test_the_signal_that_ended_the_child_ends_the_supervisor(supervised: Supervised) -> None:
    supervised.start("kill")
    assert supervised.status() == -signal.SIGKILL
    assert len(supervised.starts()) == 1


@pytest.mark.parametrize("status", [70, 75])
def test_a_failure_starts_the_child_again_under_the_same_name(supervised: Supervised, status: int) -> None:
    supervised.start(f"{status},run")
    supervised.await_starts(2)
    (first, member, *_), (second, again, *_) = supervised.starts()
    assert first != second
    assert member == again
    assert supervised.text().count("starting it again") == 1


def test_each_supervisor_draws_another_name(tmp_path: Path) -> None:
    members = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = Supervised(tmp_path / name)
        made.start("0")
        made.status()
        members.add(made.starts()[0][1])
    assert len(members) == 2


def test_ten_failures_within_a_minute_with_kafka_there_are_passed_on(supervised: Supervised) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        supervised.start("70", f"127.0.0.1:{broker.getsockname()[1]}")
        assert supervised.status() == 70
    assert len(supervised.starts()) == 10
    assert "10 times within 60 s although Kafka is there" in supervised.text()


def test_pauses_grow_while_a_record_batch_cannot_be_read_and_no_others_do(supervised: Supervised) -> None:
    """A restart helps only once another replica is the leader, and until then nobody else is disturbed."""
    supervised.start("unreadable,unreadable,unreadable,unreadable,unreadable,70,unreadable,run")
    supervised.await_running()
    assert len(supervised.starts()) == 8
    pauses = re.findall(r"starting it again in (\S+) s, as a record batch cannot be read", supervised.text())
    assert pauses == ["0.1", "0.2", "0.3", "0.3", "0.1"], "at once the first time, and anew after another end"


def test_ten_failures_are_passed_on_where_the_child_says_nothing_of_brokers(supervised: Supervised) -> None:
    supervised.start("75")
    assert supervised.status() == 75
    assert len(supervised.starts()) == 10


def test_without_a_broker_nothing_is_started_until_one_accepts(supervised: Supervised) -> None:
    port = free_port()
    supervised.start("70,70,run", f"127.0.0.1:1,127.0.0.1:{port}")
    supervised.await_waiting()
    assert len(supervised.starts()) == 2  # at once the first time
    assert supervised.get("/livez") == (200, "ok\n")
    assert supervised.get("/startedz") == (200, "ok\n")
    status, reason = supervised.get("/readyz")
    assert status == 503
    assert "told to end with 70" in reason
    assert f"no broker accepts a connection at 127.0.0.1:1, 127.0.0.1:{port}" in reason
    assert supervised.get("/metrics")[0] == 503
    with socket.create_server(("127.0.0.1", port)):
        supervised.await_starts(3)
        supervised.await_running()
        assert supervised.get("/readyz") == (200, "child\n")


def test_an_outage_of_kafka_is_no_series_of_failures(supervised: Supervised) -> None:
    port = free_port()
    supervised.start(",".join(["70"] * 12 + ["run"]), f"127.0.0.1:{port}")
    for turn in range(11):
        supervised.await_waiting(turn + 1)
        with socket.create_server(("127.0.0.1", port)):
            supervised.await_starts(turn + 3)
    supervised.await_running()


def test_connections_made_while_no_child_serves_are_answered(supervised: Supervised) -> None:
    supervised.start("wait")
    supervised.await_running()
    assert supervised.get("/livez") == (200, "ok\n")
    assert supervised.get("/startedz")[0] == 503
    assert supervised.get("/readyz?verbose=1") == (503, "starting\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_a_child_a_signal_ends_the_supervisor(supervised: Supervised, number: signal.Signals) -> None:
    supervised.start("70", f"127.0.0.1:{free_port()}")
    supervised.await_waiting()
    supervised.signal(number)
    assert supervised.status() == 0


def test_signals_reach_the_child(supervised: Supervised) -> None:
    supervised.start("run")
    supervised.await_running()
    supervised.signal(signal.SIGUSR1)
    wait_until((supervised.folder / "signal").exists, what=supervised.text)
    supervised.signal(signal.SIGTERM)
    assert supervised.status() == 0
    assert len(supervised.starts()) == 1


def test_a_child_that_cannot_end_is_killed(supervised: Supervised) -> None:
    supervised.start("stuck")
    supervised.await_running()
    supervised.signal(signal.SIGTERM)
    assert supervised.status() == -signal.SIGKILL
    assert "has not ended 0.2 s after it was asked to: killed" in supervised.text()
    assert not lives(supervised.child())


@pytest.mark.parametrize("stopped", [False, True], ids=["that runs", "that is stopped"])
def test_a_supervisor_that_is_killed_takes_its_child_along(supervised: Supervised, *, stopped: bool) -> None:
    supervised.start("run")
    supervised.await_running()
    child = supervised.child()
    if stopped:
        os.kill(child, signal.SIGSTOP)
    supervised.signal(signal.SIGKILL)
    supervised.status()
    wait_until(lambda: not lives(child))


def test_orphans_leave_no_zombies_behind(supervised: Supervised) -> None:
    supervised.start("orphan")
    supervised.await_running()
    file = supervised.folder / "orphan"
    wait_until(lambda: file.exists() and file.read_text() != "", what=supervised.text)
    orphan = Path(f"/proc/{file.read_text()}")
    wait_until(lambda: not orphan.exists(), what=supervised.text)
    assert len(supervised.starts()) == 1


def test_a_failpoint_is_for_the_first_child_only(supervised: Supervised) -> None:
    supervised.start("70,run", failpoint="checkpoint.begun:1:STOP")
    supervised.await_starts(2)
    assert [start[3] for start in supervised.starts()] == ["checkpoint.begun:1:STOP", "None"]


def test_a_supervisor_is_small(supervised: Supervised) -> None:
    supervised.start("70", f"localhost:{free_port()}")
    supervised.await_waiting()
    supervised.get("/readyz")
    status = Path(f"/proc/{supervised.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < RSS_KIB


def test_clients_that_hang_keep_nobody_from_an_answer(supervised: Supervised) -> None:
    supervised.start("wait")
    supervised.await_running()
    hanging = [socket.create_connection(supervised.address()) for _ in range(3 * MOST_CLIENTS)]
    try:
        for client in hanging:
            client.sendall(b"GET /livez HT")
        assert supervised.get("/livez") == (200, "ok\n")
        # The oldest had to go, and those that stay go at their deadline.
        for client in hanging:
            client.settimeout(60)
            with suppress(ConnectionResetError):
                assert client.recv(100).split()[1:2] in ([], [b"408"])
        descriptors = list(Path(f"/proc/{supervised.pid}/fd").iterdir())
        assert len(descriptors) < 30
    finally:
        for client in hanging:
            client.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /livez HTTP/1.0\n\n", b"200"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\xff\xfe /livez\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET /%ff HTTP/1.1\r\n\r\n", b"503"),
        (b"GET /%ff\xff HTTP/1.1\r\n\r\n", b"400"),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 50000\r\n\r\n" + b"a" * 50_000, b"405"),
    ],
)
def test_any_bytes_get_one_answer(supervised: Supervised, request_: bytes, status: bytes) -> None:
    supervised.start("wait")
    supervised.await_running()
    with socket.create_connection(supervised.address(), timeout=60) as client:
        client.sendall(request_)
        answer = b""
        while piece := client.recv(1000):
            answer += piece
    assert answer.split()[1] == status
    assert answer.count(b"HTTP/1.1") == 1
