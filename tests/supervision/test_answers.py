"""What a supervisor answers while there is no child: at the probes' door and at that of the pages."""

from __future__ import annotations

import json

import pytest

from tests.support.supervisor_door import ask, supervisor_door
from triggerstream.supervision import answers
from triggerstream.supervision.answers import HEADERS
from triggerstream.supervision.channel import PROBES

DOORS = [PROBES, "web"]
HOSTILE = "ended: \udcff\ud800\r\nHTTP/1.1 200 OK\n<script>é" + "x" * 1_000_000


def refused(_name: str, _path: str) -> tuple[int, str]:
    return 503, HOSTILE


def head(answer: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = answer.split(b"\r\n\r\n", 1)[0].decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return int(first.split()[1]), dict(pairs)


def body(answer: bytes) -> str:
    return answer.split(b"\r\n\r\n", 1)[1].decode()


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("path", ["/readyz", "/v1/overview", "/"])
def test_a_reason_of_any_text_ends_nobody_and_is_one_line(name: str, path: str) -> None:
    with supervisor_door(name, refused) as address:
        answer = ask(address, f"GET {path} HTTP/1.1\r\n\r\n".encode())
        assert head(answer)[0] == 503
        assert len(answer) < 4_000
        assert body(answer).count("\n") <= 3
        assert "<script>" not in body(answer) or "html" not in head(answer)[1]["Content-Type"]
        assert head(ask(address, b"GET /livez HTTP/1.1\r\n\r\n"))[0] == 503, "it answers on"


WRONG = {
    b"nonsense\r\n\r\n": 400,
    b"GET /livez\r\n\r\n": 400,
    b"GET /livez HTTP/2.0\r\n\r\n": 400,
    b"GET /livez HTTP/1.1": 400,
    b"GET /\xff HTTP/1.1\r\n\r\n": 400,
    b"GET  /livez HTTP/1.1\r\n\r\n": 400,
    b"\x16\x03\x01\x02\x00\x01": 400,
    b"GET /" + b"a" * 20_000: 431,
    b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000: 431,
}


@pytest.mark.parametrize("name", DOORS)
def test_a_wrong_request_gets_a_4xx_with_the_headers_of_all_answers(name: str) -> None:
    with supervisor_door(name, refused) as address:
        for data, status in WRONG.items():
            found, headers = head(ask(address, data))
            assert found == status, data
            assert headers.items() >= HEADERS.items(), data
            assert headers["Content-Type"].startswith(("application/json", "text/html"))


def test_each_door_answers_in_its_form() -> None:
    with supervisor_door("web", refused) as address:
        programs = ask(address, b"POST /v1/sessions/s/orders HTTP/1.1\r\n\r\n")
        assert "error" in json.loads(body(programs))
        people = ask(address, b"GET /sessions HTTP/1.1\r\n\r\n")
        assert body(people).startswith("<!doctype html>")
        assert head(people)[1]["Retry-After"]
    with supervisor_door(PROBES, lambda _name, _path: (200, "ok")) as address:
        assert body(ask(address, b"GET /livez HTTP/1.1\r\n\r\n")) == "ok\n"
        status, headers = head(ask(address, b"POST /livez HTTP/1.1\r\n\r\n"))
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        answer = ask(address, b"HEAD /livez HTTP/1.1\r\n\r\n")
        assert (head(answer)[0], body(answer)) == (200, "")


def test_a_head_that_does_not_come_is_answered_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "DEADLINE_S", 0.2)
    with supervisor_door("web", refused) as address:
        assert head(ask(address, b"GET / HTTP/1.1\r\nX-More: ", end=False))[0] == 408
        assert ask(address, b"", end=False) == b""
