"""Who gets in: tokens, cookies, roles, and the file that has them."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from triggerstream.adapters.memory import MemoryDatabase, MemoryLog, MemoryReader
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.queries.embedded import EmbeddedInspector
from triggerstream.supervision.answers import HEADERS
from triggerstream.web.access import COOKIE, Access, Role, read_tokens, tokens_for
from triggerstream.web.attempts import EACH_S, FAILURES, Attempts
from triggerstream.web.peerkey import PeerKey
from triggerstream.web.site import site

OPERATOR, VIEWER = "an-operator-s-token", "a-viewer-s-token-1"
TOKENS = {OPERATOR: Role.OPERATOR, VIEWER: Role.VIEWER}
ORDER = {"order": "replay", "instance": "t#0", "reason": "r"}

Http: TypeAlias = "TestClient[Any, Any]"


def server(allowed: Access) -> TestServer:
    database = MemoryDatabase()
    inspector = EmbeddedInspector(MemoryReader(database), MemoryLog(database), app=AppId("app"))
    return TestServer(site(inspector, inspector, allowed))


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with TestClient(server(Access(TOKENS))) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def form_of(http: Http, path: str) -> str:
    async with http.get(path) as answer:
        found = re.search(r'name="form" value="([0-9a-f]{64})"', await answer.text())
    assert found is not None
    return found[1]


async def log_in(http: Http, token: str, to: str = "/sessions") -> tuple[int, str]:
    fields = {"form": await form_of(http, "/login"), "token": token, "to": to}
    async with http.post("/login", data=fields, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Location", "")


@pytest.mark.parametrize("path", ["/", "/sessions?prefix=a", "/sessions/a%2Fb", "/configuration", "/nowhere"])
async def test_without_a_token_a_browser_is_led_to_the_login(http: Http, path: str) -> None:
    async with http.get(path, allow_redirects=False) as answer:
        assert answer.status == 303
        to = URL(answer.headers["Location"])
    assert (to.path, to.query["to"]) == ("/login", path)
    assert await log_in(http, OPERATOR, path) == (303, path)


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("a-wrong-token-12345"), bearer(""), {"Authorization": f"Basic {OPERATOR}"}, bearer("é" * 20)],
)
async def test_without_a_token_a_program_is_told_so(http: Http, headers: dict[str, str]) -> None:
    for path in ("/v1/overview", "/v1/sessions", "/v1/nowhere"):
        async with http.get(path, headers=headers) as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    async with http.post("/v1/sessions/s/orders", json=ORDER, headers=headers) as answer:
        assert answer.status == 401


async def test_a_token_lets_a_program_look_and_only_an_operator_s_give_orders(http: Http) -> None:
    for token in (OPERATOR, VIEWER):
        async with http.get("/v1/overview", headers=bearer(token)) as answer:
            assert answer.status == 200
    async with http.post("/v1/sessions/s/orders", json=ORDER, headers=bearer(VIEWER)) as answer:
        assert answer.status == 403
        assert "operator" in (await answer.json())["error"]


async def test_a_browser_gets_a_cookie_that_is_not_the_token(http: Http) -> None:
    assert await log_in(http, VIEWER) == (303, "/sessions")
    (cookie,) = [cookie for cookie in http.session.cookie_jar if cookie.key == COOKIE]
    assert VIEWER not in cookie.value
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    async with http.get("/sessions") as answer:
        assert answer.status == 200
    fields = {**ORDER, "form": await form_of(http, "/sessions")}
    async with http.post("/sessions/s/orders", data=fields) as answer:
        assert answer.status == 403


async def test_who_leaves_has_no_cookie_any_more(http: Http) -> None:
    await log_in(http, OPERATOR)
    async with http.post("/logout", data={"form": await form_of(http, "/")}) as answer:
        assert answer.status == 200
    async with http.get("/sessions", allow_redirects=False) as answer:
        assert answer.status == 303


async def test_a_wrong_token_gets_no_cookie(http: Http) -> None:
    assert (await log_in(http, "a-wrong-token-12345"))[0] == 403
    assert not [*http.session.cookie_jar]


async def test_another_page_cannot_log_anybody_in(http: Http) -> None:
    async with http.post("/login", data={"form": "0" * 64, "token": OPERATOR}) as answer:
        assert answer.status == 403
    fields = {"form": await form_of(http, "/login"), "token": OPERATOR}
    async with http.post("/login", data=fields, headers={"Origin": "http://evil.example"}) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "", "/\r\nX: y"])
async def test_a_login_leads_to_a_page_of_ours_only(http: Http, to: str) -> None:
    assert await log_in(http, OPERATOR, to) == (303, "/")


KEY = PeerKey(bytes(range(32)), app=AppId("app"))


async def status_of(http: Http, cookie: str) -> int:
    """The status of the overview for whoever has that cookie."""
    async with http.get("/v1/overview", headers={"Cookie": f"{COOKIE}={cookie}"}) as answer:
        return answer.status


async def test_a_cookie_is_known_to_every_worker_with_the_keys_until_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = Access(TOKENS, peer_key=KEY), Access(dict(reversed(TOKENS.items())), peer_key=KEY)
    cookie = one.logins.issue(OPERATOR)
    until, nonce, mac = cookie.split(".")
    forged = [
        f"{int(until) + 1}.{nonce}.{mac}",
        f"{until}.{'0' * 32}.{mac}",
        f"{until}.{nonce}.{'0' * 64}",
        "",
        until,
        f"{until}.{nonce}.{mac}x",
        one.logins.issue("a-token-that-is-gone"),
        Access(TOKENS).logins.issue(OPERATOR),
    ]
    async with TestClient(server(other)) as http:
        assert await status_of(http, cookie) == 200
        assert [await status_of(http, value) for value in forged] == [401] * len(forged)
        later = time.time() + 13 * 3600
        monkeypatch.setattr(other.logins, "_clock", lambda: later)
        assert await status_of(http, cookie) == 401


async def test_without_a_peer_key_a_cookie_is_good_where_it_was_given_only() -> None:
    one, other = Access(TOKENS), Access(TOKENS)
    cookie = one.logins.issue(OPERATOR)
    for allowed, status in ((one, 200), (other, 401)):
        async with TestClient(server(allowed)) as http:
            assert await status_of(http, cookie) == status


async def test_a_cookie_is_over_once_its_browser_has_logged_out(http: Http) -> None:
    await log_in(http, OPERATOR)
    (cookie,) = [cookie.value for cookie in http.session.cookie_jar if cookie.key == COOKIE]
    assert await status_of(http, cookie) == 200
    async with http.post("/logout", data={"form": await form_of(http, "/")}) as answer:
        assert answer.status == 200
    assert await status_of(http, cookie) == 401
    async with http.get("/", headers={"Cookie": f"{COOKIE}={cookie}"}, allow_redirects=False) as answer:
        assert answer.status == 303


@pytest.mark.parametrize("path", ["/", "/nowhere", "/v1/nowhere", "/static/none", "/sessions/s/orders"])
async def test_every_answer_has_the_security_headers(http: Http, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        async with http.request(method, path, allow_redirects=False) as answer:
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


async def test_answers_to_a_login_and_a_logout_have_the_security_headers(http: Http) -> None:
    fields = {"form": await form_of(http, "/login"), "token": OPERATOR, "to": "/"}
    async with http.post("/login", data=fields, allow_redirects=False) as answer:
        assert answer.status == 303
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    async with http.post("/logout", data={"form": await form_of(http, "/")}, allow_redirects=False) as answer:
        assert answer.status == 303
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    ("public", "headers", "secure"),
    [
        (None, {}, False),
        (None, {"X-Forwarded-Proto": "http"}, False),
        (None, {"X-Forwarded-Proto": "https"}, True),
        (None, {"X-Forwarded-Proto": "HTTPS, http"}, True),
        ("https://pages.example", {}, True),
        ("http://pages.example", {}, False),
    ],
)
async def test_a_cookie_is_secure_where_the_browser_is_connected_by_tls(
    public: str | None, headers: dict[str, str], *, secure: bool
) -> None:
    async with TestClient(server(Access(TOKENS, public=public))) as http:
        fields = {"form": await form_of(http, "/login"), "token": OPERATOR}
        async with http.post("/login", data=fields, headers=headers, allow_redirects=False) as answer:
            given = answer.headers["Set-Cookie"]
    assert ("secure" in given.lower()) is secure


async def test_a_page_behind_a_proxy_is_ours_by_its_public_address() -> None:
    async with TestClient(server(Access(TOKENS, public="https://pages.example"))) as http:
        for origin, status in (("https://pages.example", 303), ("https://evil.example", 403)):
            fields = {"form": await form_of(http, "/login"), "token": OPERATOR}
            headers = {"Origin": origin}
            async with http.post("/login", data=fields, headers=headers, allow_redirects=False) as answer:
                assert answer.status == status


async def test_wrong_tokens_have_an_address_wait_at_both_doors() -> None:
    allowed = Access(TOKENS)
    now = 0.0
    allowed.attempts = Attempts(lambda: now)
    async with TestClient(server(allowed)) as http:
        form = await form_of(http, "/login")
        statuses = []
        for turn in range(2 * FAILURES):
            token = f"a-wrong-token-{turn:04}"
            if turn % 2:
                async with http.get("/v1/overview", headers=bearer(token)) as answer:
                    statuses.append(answer.status)
            else:
                async with http.post("/login", data={"form": form, "token": token}) as answer:
                    statuses.append(answer.status)
        assert statuses[:FAILURES] == [403, 401] * (FAILURES // 2)
        assert statuses[FAILURES:] == [429] * FAILURES
        # A right token is not looked at either, else it would be told from a wrong one.
        async with http.get("/v1/overview", headers=bearer(OPERATOR)) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "6")
        async with http.post("/login", data={"form": form, "token": OPERATOR}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "6")
            assert "Too many wrong tokens" in await answer.text()
        # Who is logged in already goes on.
        assert await status_of(http, allowed.logins.issue(VIEWER)) == 200
        now += EACH_S
        async with http.get("/v1/overview", headers=bearer(OPERATOR)) as answer:
            assert answer.status == 200


async def test_behind_a_proxy_the_address_is_the_one_that_the_proxy_added() -> None:
    allowed = Access(TOKENS, public="https://pages.example")
    async with TestClient(server(allowed)) as http:
        for _ in range(FAILURES):
            headers = {**bearer("a-wrong-token-12345"), "X-Forwarded-For": "10.9.9.9, 192.0.2.1"}
            async with http.get("/v1/overview", headers=headers) as answer:
                assert answer.status == 401
        for address, status in (("192.0.2.1", 429), ("192.0.2.1, 192.0.2.2", 200)):
            headers = {**bearer(OPERATOR), "X-Forwarded-For": address}
            async with http.get("/v1/overview", headers=headers) as answer:
                assert answer.status == status


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_this_machine_needs_no_tokens(host: str) -> None:
    assert tokens_for(host, None) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "worker-1", ""])  # noqa: S104 - refused
def test_another_address_needs_tokens(host: str) -> None:
    with pytest.raises(UsageError, match="--web-tokens"):
        tokens_for(host, None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(0o600)
    return path


def test_a_file_has_a_role_and_a_token_in_each_line(file: Path) -> None:
    file.write_text(f"# who may what\n\noperator:{OPERATOR}\nviewer:{VIEWER}\n")
    assert read_tokens(file) == TOKENS
    assert tokens_for("0.0.0.0", file) == TOKENS  # noqa: S104 - nothing is bound


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no token"),
        ("admin:0123456789abcdef", ":1: write a role"),
        ("0123456789abcdef", ":1: write a role"),
        ("viewer:short", ":1: a token has at least 16"),
        ("viewer:0123456789 abcdef", ":1: a token has at least 16"),
        ("viewer:0123456789abcdéf", ":1: a token has at least 16"),
        (f"viewer:{VIEWER}\noperator:{VIEWER}", ":2: the same token"),
    ],
)
def test_a_file_that_is_not_right_is_refused_without_a_word_of_it(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        read_tokens(file)
    assert "abcdef" not in str(caught.value)
    assert VIEWER not in str(caught.value)


def test_a_file_that_everybody_can_read_is_refused(file: Path) -> None:
    file.write_text(f"viewer:{VIEWER}")
    file.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        read_tokens(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_tokens(file.with_name("none"))


async def test_tokens_are_rotated_with_both_in_the_file_for_a_while(file: Path) -> None:
    """As docs/kubernetes.md describes it; each step is a restart, which reads the file."""
    new = "the-next-operator-s-token"

    def restarted(text: str) -> TestServer:
        file.write_text(text)
        return server(Access(read_tokens(file), peer_key=PeerKey(b"k" * 32, app=AppId("app"))))

    async with TestClient(restarted(f"operator:{OPERATOR}\n")) as before:
        await log_in(before, OPERATOR)
        (cookie,) = [cookie.value for cookie in before.session.cookie_jar if cookie.key == COOKIE]

    async def statuses(text: str) -> list[int]:
        found = []
        async with TestClient(restarted(text)) as http:
            for headers in (bearer(OPERATOR), bearer(new), {"Cookie": f"{COOKIE}={cookie}"}):
                async with http.get("/v1/overview", headers=headers) as answer:
                    found.append(answer.status)
        return found

    assert await statuses(f"operator:{OPERATOR}\noperator:{new}\n") == [200, 200, 200]
    assert await statuses(f"operator:{new}\n") == [401, 200, 401]
