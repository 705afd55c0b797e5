"""Logins end with a logout: here, after a restart, and at other workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import JsonObject
from triggerstream.web import logins as module
from triggerstream.web.logins import LOGGED_IN_S, Logins

KEY = bytes(32)
TOKENS = ["a-token-of-somebody", "a-token-of-another"]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "made" / "app-ended-logins.json"


def is_good(logins: Logins, cookie: str) -> bool:
    return logins.token_of(cookie, TOKENS) == TOKENS[0]


def test_an_ended_login_is_over_and_another_one_of_the_same_token_is_not(clock: Clock) -> None:
    logins = Logins(KEY, clock=clock)
    one, other = logins.issue(TOKENS[0]), logins.issue(TOKENS[0])
    logins.end(one)
    assert (is_good(logins, one), is_good(logins, other)) == (False, True)
    logins.end("nonsense")
    assert is_good(logins, other)


def test_an_ended_login_is_over_after_a_restart(clock: Clock, file: Path) -> None:
    logins = Logins(KEY, file=file, clock=clock)
    cookie = logins.issue(TOKENS[0])
    logins.end(cookie)
    assert not is_good(Logins(KEY, file=file, clock=clock), cookie)
    assert file.stat().st_mode & 0o077 == 0
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_logout_at_which_an_older_one_is_forgotten_outlives_a_restart_too(clock: Clock, file: Path) -> None:
    logins = Logins(KEY, file=file, clock=clock)
    logins.end(logins.issue(TOKENS[0]))
    clock.now += LOGGED_IN_S - 10
    cookie = logins.issue(TOKENS[0])
    clock.now += 20
    logins.end(cookie)
    assert not is_good(Logins(KEY, file=file, clock=clock), cookie)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"ended": {"x": 1}, "madeAfter": 0}'])
def test_a_file_that_cannot_be_read_ends_all_logins(clock: Clock, file: Path, content: bytes) -> None:
    logins = Logins(KEY, clock=clock)
    cookie = logins.issue(TOKENS[0])
    file.parent.mkdir()
    file.write_bytes(content)
    again = Logins(KEY, file=file, clock=clock)
    assert not is_good(again, cookie)
    assert is_good(again, again.issue(TOKENS[0]))


def test_a_file_that_cannot_be_written_ends_the_login_all_the_same(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    logins = Logins(KEY, file=tmp_path / "taken" / "file", clock=clock)
    cookie = logins.issue(TOKENS[0])
    logins.end(cookie)
    assert not is_good(logins, cookie)


def test_other_workers_learn_of_it(clock: Clock) -> None:
    here, there = Logins(KEY, clock=clock), Logins(KEY, clock=clock)
    cookie = here.issue(TOKENS[0])
    assert is_good(there, cookie)
    here.end(cookie)
    there.add_ended(here.ended())
    assert not is_good(there, cookie)


def test_an_ended_login_is_forgotten_once_it_would_be_over(clock: Clock) -> None:
    logins = Logins(KEY, clock=clock)
    logins.end(logins.issue(TOKENS[0]))
    clock.now += LOGGED_IN_S + 1
    assert logins.ended() == {"ended": {}, "madeAfter": 0}


def test_too_many_ended_logins_end_all(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENDED", 10)
    here, there = Logins(KEY, clock=clock), Logins(KEY, clock=clock)
    ended = [here.issue(TOKENS[0]) for _ in range(11)]
    for cookie in ended:
        here.end(cookie)
    there.add_ended(here.ended())
    for logins in (here, there):
        assert not any(is_good(logins, cookie) for cookie in ended)
        assert is_good(logins, logins.issue(TOKENS[0])), "a new one is good"


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"ended": [], "madeAfter": 0},
        {"ended": {"0" * 32: "1"}, "madeAfter": 0},
        {"ended": {"0" * 32: 10**15}, "madeAfter": 0},
        {"ended": {"é" * 32: 1}, "madeAfter": 0},
        {"ended": {}, "madeAfter": 10**9},
        {"ended": {}, "madeAfter": True},
    ],
)
def test_what_is_no_list_of_ended_logins_is_refused(clock: Clock, told: JsonObject) -> None:
    logins = Logins(KEY, clock=clock)
    cookie = logins.issue(TOKENS[0])
    with pytest.raises(DecodeError):
        logins.add_ended(told)
    assert is_good(logins, cookie)
