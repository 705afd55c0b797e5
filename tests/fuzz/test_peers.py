"""Fuzzers of what workers take from each other: proofs, announced addresses, answers and ended logins."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_bytes, mutate_json
from triggerstream.core.answers import ExplainedSession, SessionsPage
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import AppId, JsonObject
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.queries.answers import Overview, PartitionRow, ShownConfiguration, WorkerRow
from triggerstream.engine.queries.inspector import merged
from triggerstream.web import logins as logins_module
from triggerstream.web import peeranswers, peerkey, render
from triggerstream.web.graph import draw_file
from triggerstream.web.logins import Logins
from triggerstream.web.peeranswers import read_answer
from triggerstream.web.peerkey import PeerKey, PeerRefusedError, PeerRequest, read_peer_key
from triggerstream.wire import answers as wire_answers
from triggerstream.wire.answers import to_json

APP = AppId("app")
NOW = 1_800_000_000.0
KEY = PeerKey(bytes(range(32)), app=APP, clock=lambda: NOW)
ASKED = PeerRequest(url="http://w-1:6066", method="GET", path="/v1/sessions?here=1")
_HEADER = KEY.authorization(ASKED)[0]
_LATE = PeerKey(bytes(range(32)), app=APP, clock=lambda: NOW - 100).authorization(ASKED)[0]


def _mutate_text(chance: random.Random, text: str) -> str:
    tokens = (
        b".",
        b"0",
        b"f",
        b"%",
        b"&",
        b"mac=",
        b"on=",
        b"[",
        b"\xff",
        b"Triggerstream-Peer ",
        b"\xc2\xb2",
    )
    data = mutate_bytes(chance, text.encode(errors="surrogateescape"), tokens)
    return data.decode(errors="surrogateescape")


def test_an_authorization_is_accepted_or_refused_with_one_error() -> None:
    def check(header: str) -> None:
        KEY.check(header, ASKED)
        assert header.removeprefix("Triggerstream-Peer ") == _HEADER.removeprefix("Triggerstream-Peer ")

    fuzz(
        Fuzzer(
            parse=check,
            refuses=(PeerRefusedError,),
            seeds=(_HEADER, _LATE, ""),
            mutate=_mutate_text,
            parsers=(Parser(module=peerkey, functions=frozenset({"PeerKey.check", "_equal"})),),
        )
    )


def test_an_announced_address_is_proven_or_it_is_not() -> None:
    url = "http://w-1:6066/?on=w-1"
    announced = KEY.announced(url)

    def check(text: str) -> None:
        assert KEY.proven(text) in {None, url}

    fuzz(
        Fuzzer(
            parse=check,
            refuses=(),
            seeds=(announced, url, "http://[::1]:6066/?on=x&mac=0", "http://["),
            mutate=_mutate_text,
            parsers=(Parser(module=peerkey, functions=frozenset({"PeerKey.proven"})),),
        )
    )


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of another worker, and the page that shows it."""

    name: str
    status: int
    body: bytes


_COMMON: dict[str, Any] = {
    "nav": "x",
    "message": None,
    "args": {},
    "may_order": True,
    "may_leave": True,
    "form_key": "k",
    "most_instances": render.MOST_INSTANCES,
    "missing": [],
    "app": "app",
    "workers": [],
}
_TIME = "2026-03-01T12:00:00Z"
_BY: JsonObject = {"offset": 1, "time": _TIME, "id": "i", "source": "s"}
_INSTANCE: JsonObject = {
    "instance": "t#0",
    "status": "failed",
    "created": _TIME,
    "changed": _TIME,
    "says": "failed: why",
    "error": "why",
    "reason": "r",
    "attempt": 2,
    "result": {"a": [1]},
    "command": "c",
    "cloneOf": "t#1",
    "after": [{"trigger": "a", "met": True, "by": _BY, "data": {"x": 1}}, {"trigger": "b", "met": False}],
    "unless": [
        {"trigger": "c", "arrived": True, "offset": 2},
        {"trigger": "d", "arrived": False, "offset": None},
    ],
}
_OVERVIEW = Overview(
    app="app",
    workers=[WorkerRow(url="u", own=False, says="s")],
    partitions=[PartitionRow(partition=1, owner="o", own=False, phase="ready", lag=1)],
)
ANSWERS: dict[str, tuple[type[Struct], dict[str, Any]]] = {
    "overview": (Overview, to_json(_OVERVIEW)),
    "sessions": (
        SessionsPage,
        {
            "sessions": [
                {
                    "session": "s",
                    "waiting": 0,
                    "running": 1,
                    "failed": 2,
                    "done": 3,
                    "closed": True,
                    "clock": _TIME,
                    "waitsFor": ["a"],
                    "failures": [{"instance": "t#0", "error": "e", "reason": None, "changed": _TIME}],
                }
            ],
            "after": "s",
            "complete": False,
        },
    ),
    "session": (
        ExplainedSession,
        {
            "session": "s",
            "partition": 1,
            "closed": False,
            "clock": _TIME,
            "config": {"met": None, "inForce": "h"},
            "offset": 7,
            "refused": 1,
            "generation": 0,
            "waitsFor": ["a", "b"],
            "tasks": [
                {
                    "task": "t",
                    "inForce": True,
                    "run": "x",
                    "says": "y",
                    "forgotten": 1,
                    "instances": [_INSTANCE],
                }
            ],
            "timeline": [
                {"what": "arrived", "time": _TIME, "offset": 1, "type": "a", "note": "n"},
                {
                    "what": "decided",
                    "time": _TIME,
                    "offset": 1,
                    "instance": "t#0",
                    "run": "x",
                    "because": [{"trigger": "a", "by": _BY}],
                },
            ],
            "seen": [{"trigger": "a", "by": _BY, "usedBy": ["t"]}],
        },
    ),
    "configuration": (
        ShownConfiguration,
        {
            "hash": "h",
            "text": '{"t": {"after": [{"any": ["b", "c"]}], "run": "x", "andEvery": "e", "unless": ["u"]}}',
            "arrival": None,
            "tasks": [
                {"task": "t", "run": "x", "after": ["a", {"any": ["b"]}], "andEvery": "e", "unless": ["u"]}
            ],
        },
    ),
}


def show(page: Page) -> None:
    """Make the page that shows an answer of another worker."""
    shape, _ = ANSWERS[page.name]
    found = read_answer(page.status, page.body, shape)
    if found is None:
        return
    if isinstance(found, Overview):
        rows = [structs.replace(row, own=False, owner="http://w-1") for row in found.partitions]
        found = structs.replace(found, partitions=rows)
    values = {**structs.asdict(found), **_COMMON, "found": found}
    if isinstance(found, Overview):
        values["workers"] = found.workers
    if isinstance(found, SessionsPage):
        merged([found, found], limit=1)
        render.page("failures", values)
    if isinstance(found, ShownConfiguration):
        values["drawing"] = draw_file(found.text, ConfigurationCache())
    render.page(page.name, values)


def _mutate_page(chance: random.Random, page: Page) -> Page:
    if chance.random() < 0.05:
        return Page(page.name, chance.choice((200, 404, 500, 302)), page.body)
    try:
        value = json.loads(page.body)
    except ValueError:
        return Page(page.name, page.status, mutate_bytes(chance, page.body))
    if chance.random() < 0.9:
        names = ("by", "data", "unless", "error", "after", "what", "note", "run", "status", "because")
        body = json.dumps(mutate_json(chance, value, names)).encode(errors="replace")
        return Page(page.name, page.status, body)
    return Page(page.name, page.status, mutate_bytes(chance, page.body))


def test_an_answer_is_shown_or_refused_with_one_error() -> None:
    seeds = [Page(name, 200, json.dumps(value).encode()) for name, (_, value) in ANSWERS.items()]
    seeds += [Page("session", 404, b"{}"), Page("session", 500, b'{"error": "e"}'), Page("session", 200, b"")]
    reading = frozenset({"read_answer"})
    fuzz(
        Fuzzer(
            parse=show,
            refuses=(DecodeError,),
            seeds=seeds,
            mutate=_mutate_page,
            parsers=(
                Parser(module=peeranswers, functions=reading),
                Parser(module=wire_answers, functions=frozenset({"from_json", "_value_of"})),
            ),
        )
    )


def test_ended_logins_are_added_or_refused_with_one_error() -> None:
    cookie = Logins(bytes(32), clock=lambda: NOW).issue("a-token")

    def add_ended(ended: Any) -> None:  # noqa: ANN401 - JSON of any kind
        logins = Logins(bytes(32), clock=lambda: NOW)
        logins.add_ended(ended)
        logins.token_of(cookie, ["a-token"])
        logins.ended()

    fuzz(
        Fuzzer(
            parse=add_ended,
            refuses=(DecodeError,),
            seeds=(
                {"ended": {"0" * 32: int(NOW) + 5, "1" * 32: 5, "2" * 32: 10**13}, "madeAfter": int(NOW) - 5},
                {"ended": {"0" * 32: int(NOW) + 5}, "madeAfter": 10**12},
                {"ended": {"x": 1}, "madeAfter": 1},
            ),
            mutate=_mutate_ended,
            parsers=(Parser(module=logins_module, functions=frozenset({"Logins.add_ended"})),),
        )
    )


def _mutate_ended(chance: random.Random, ended: Any) -> Any:  # noqa: ANN401 - JSON of any kind
    mutated = mutate_json(chance, ended, ("ended", "madeAfter", "0" * 32))
    return mutated if isinstance(mutated, dict) else ended


def test_a_key_file_is_read_or_refused_with_one_error(tmp_path: Path) -> None:
    path = tmp_path / "peer.key"
    path.touch(0o600)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_peer_key(path, app=APP)

    mutate: Callable[[random.Random, bytes], bytes] = mutate_bytes
    fuzz(
        Fuzzer(
            parse=read,
            refuses=(UsageError,),
            seeds=(bytes(range(32)), b"5e" * 32, b"5e" * 31 + b"\n", b"", b"5" * 65),
            mutate=mutate,
            parsers=(Parser(module=peerkey, functions=frozenset({"read_peer_key"})),),
        )
    )
