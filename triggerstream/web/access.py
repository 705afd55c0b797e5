"""Who may look, and who may give orders.

On a loopback address nobody needs an account, and whoever comes is an operator: the names in ``Host`` must be
this machine's, so that no other name can be pointed at it. On any other address everybody brings a token:
programs as ``Authorization: Bearer``, browsers once, for a cookie that is made of it.
Any worker with the same file of tokens knows the cookie.

What changes something must come from a page of ours: its ``Origin`` and ``Sec-Fetch-Site`` say so, and a
field of the form that no other page can know.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from triggerstream.core.errors import UsageError
from triggerstream.engine.secret_files import read_secret
from triggerstream.web.loopback import is_loopback, is_loopback_host

COOKIE = "triggerstream"
LOGGED_IN_S = 12 * 3600
_SHORTEST = 16
_TOKEN = re.compile(r"[!-~]+")
_COOKIE = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})")


class Role(StrEnum):
    """What a token is good for. An operator may look, too."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. ``token`` goes along where another worker is asked for them; None: none is needed."""

    role: Role
    token: str | None = None

    @property
    def may_order(self) -> bool:
        """Whether they may change something."""
        return self.role is Role.OPERATOR


class Access:
    """The tokens, by which everybody is told; None: for this machine only, without any."""

    def __init__(self, tokens: dict[str, Role] | None = None) -> None:
        self.tokens = tokens
        self._key = secrets.token_bytes(32)

    def is_here(self, host: str) -> bool:
        """Whether a request for ``host``, the header, is one for us."""
        return self.tokens is not None or is_loopback(f"//{host}")

    def caller(self, request: web.Request) -> Caller | None:
        """Who asks; None: somebody without a token that is known."""
        if self.tokens is None:
            return Caller(role=Role.OPERATOR)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.of_token(given.strip())
        return self._of_cookie(request.cookies.get(COOKIE, ""))

    def of_token(self, given: str) -> Caller | None:
        """Whose token that is. It takes as long for each."""
        found = None
        for token, role in (self.tokens or {}).items():
            if hmac.compare_digest(token.encode(), given.encode(errors="replace")):
                found = Caller(role=role, token=token)
        return found

    def cookie(self, caller: Caller) -> str:
        """What a browser is given in place of the token."""
        until = int(time.time()) + LOGGED_IN_S
        return f"{until}.{_made_of(caller.token or '', until)}"

    def _of_cookie(self, value: str) -> Caller | None:
        match = _COOKIE.fullmatch(value)
        if match is None or int(match[1]) < time.time():
            return None
        found = None
        for token, role in (self.tokens or {}).items():
            if hmac.compare_digest(_made_of(token, int(match[1])), match[2]):
                found = Caller(role=role, token=token)
        return found

    def form_key(self, request: web.Request) -> str:
        """What a form of ours has in a hidden field: of this process, and of this browser's cookie."""
        return hmac.new(self._key, request.cookies.get(COOKIE, "").encode(), sha256).hexdigest()

    def mark(self, text: str) -> str:
        """What shows later that this process said ``text``."""
        return hmac.new(self._key, f"said {text}".encode(), sha256).hexdigest()

    def is_mark(self, text: str, given: str) -> bool:
        """Whether this process said ``text``."""
        return hmac.compare_digest(self.mark(text).encode(), given.encode(errors="replace"))

    def is_our_form(self, request: web.Request, key: str) -> bool:
        """Whether a form with that field is ours."""
        right = self.form_key(request).encode()
        return is_our_page(request) and hmac.compare_digest(right, key.encode(errors="replace"))


def is_our_page(request: web.Request) -> bool:
    """Whether no browser says that another page sends this."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None and site != "same-origin":
        return False
    if origin == "null":
        # So it is where a page sends no referrer, as ours do; then the browser must say that it is ours.
        return site == "same-origin"
    try:
        return origin is None or urlsplit(origin).netloc == request.host
    except ValueError:
        return False


def access(host: str, tokens: Path | None) -> Access:
    """Who may do what where pages are served on ``host``.

    Raises:
        UsageError: the address needs a file of tokens, or the file cannot be used.
    """
    if tokens is not None:
        return Access(read_tokens(tokens))
    if not is_loopback_host(host):
        raise UsageError(
            f"--web-host {host}: other machines reach it: name a file with --web-tokens, with lines "
            "such as operator:… or viewer:…"
        )
    return Access()


def read_tokens(path: Path) -> dict[str, Role]:
    """The roles by token.

    Raises:
        UsageError: the file cannot be used; the message never shows a token.
    """
    try:
        lines = read_secret(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: is not UTF-8") from exc
    found: dict[str, Role] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        role, _, token = line.strip().partition(":")
        if role not in set(Role):
            raise UsageError(f"{path}:{number}: write a role and a token: operator:… or viewer:…")
        if len(token) < _SHORTEST or _TOKEN.fullmatch(token) is None:
            raise UsageError(
                f"{path}:{number}: a token has at least {_SHORTEST} characters of ASCII, none of them a space"
            )
        if token in found:
            raise UsageError(f"{path}:{number}: the same token as in a line before")
        found[token] = Role(role)
    if not found:
        raise UsageError(f"{path}: has no token: write a line such as operator:…")
    return found


def _made_of(token: str, until: int) -> str:
    return hmac.new(token.encode(), f"triggerstream pages until {until}".encode(), sha256).hexdigest()
