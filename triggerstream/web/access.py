"""Authentication and authorisation of requests: viewers may read, operators may give orders.

On a loopback address no account is needed, and every caller is an operator; ``Host`` must be a name of this
machine, which prevents DNS rebinding. On any other address every caller needs a token: programs send it as
``Authorization: Bearer``, browsers send it once and get a cookie that is derived from it. Another worker
authenticates itself with the peer key, and is a viewer.

A request that changes something must come from a page of the workers: ``Origin``, ``Sec-Fetch-Site`` and a
CSRF token in the form are checked.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from math import ceil
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from triggerstream.core.errors import UsageError
from triggerstream.engine.secret_files import read_secret
from triggerstream.web.answers import RefusedError
from triggerstream.web.attempts import Attempts
from triggerstream.web.logins import Logins
from triggerstream.web.loopback import is_loopback, is_loopback_host
from triggerstream.web.peerkey import SCHEME, PeerKey, PeerRefusedError, PeerRequest

COOKIE = "triggerstream"
_SHORTEST = 16
_TOKEN = re.compile(r"[!-~]+")


class Role(StrEnum):
    """The rights of a token. An operator may look, too."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated caller. ``logged_in``: by a cookie. ``nonce``: of a request by another worker."""

    role: Role
    logged_in: bool = False
    nonce: str | None = None

    @property
    def may_order(self) -> bool:
        """True if the caller may change something."""
        return self.role is Role.OPERATOR


CALLER = web.RequestKey("caller", Caller)
"""Key under which a request holds its authenticated caller."""


class Access:
    """Authenticates callers by ``tokens``; None: without tokens, for this machine only.

    ``peer_key`` authenticates other workers, which dial the address ``url``. ``public``: the address that
    browsers use, if a proxy serves these pages.
    """

    def __init__(
        self,
        tokens: dict[str, Role] | None = None,
        *,
        peer_key: PeerKey | None = None,
        url: str = "",
        public: str | None = None,
        ended_logins: Path | None = None,
    ) -> None:
        self.tokens = tokens
        self.peer_key = peer_key
        self._url = url
        self._public = None if public is None else urlsplit(public)
        own = secrets.token_bytes(32)
        # Without a peer key, a login is valid at this process only, because others could not learn of a
        # logout.
        self._key = own if peer_key is None else peer_key.derived("forms")
        self.logins = Logins(
            own if peer_key is None else peer_key.derived("logins"),
            file=None if peer_key is None else ended_logins,
        )
        self.attempts = Attempts()

    def is_here(self, host: str) -> bool:
        """True if ``host``, the value of the header, names this server."""
        return self.tokens is not None or is_loopback(f"//{host}")

    def caller(self, request: web.Request) -> Caller | None:
        """The caller of a request; None: a caller without a known token.

        Raises:
            RefusedError: the caller has sent too many wrong tokens, or fails to authenticate as a worker.
        """
        given = request.headers.get("Authorization", "")
        scheme, _, rest = given.partition(" ")
        if scheme.lower() == SCHEME.lower():
            return self._peer(request, given)
        if self.tokens is None:
            return Caller(role=Role.OPERATOR)
        if scheme.lower() == "bearer":
            token = self.known_token(request, rest.strip())
            return None if token is None else Caller(role=self.tokens[token])
        cookie = request.cookies.get(COOKIE)
        token = None if cookie is None else self.logins.token_of(cookie, self.tokens)
        return None if token is None else Caller(role=self.tokens[token], logged_in=True)

    def known_token(self, request: web.Request, given: str) -> str | None:
        """``given`` if it is a known token; the comparison takes constant time.

        Raises:
            RefusedError: the address has sent too many wrong tokens.
        """
        address = self._address(request)
        if (wait_s := self.attempts.wait_s(address)) > 0:
            raise RefusedError(
                429,
                f"too many wrong tokens from this address: try again in {ceil(wait_s)} s",
                headers={"Retry-After": str(ceil(wait_s))},
            )
        found = None
        for token in self.tokens or {}:
            if hmac.compare_digest(token.encode(), given.encode(errors="replace")):
                found = token
        if found is None:
            self.attempts.note_failure(address)
        return found

    def is_secure(self, request: web.Request) -> bool:
        """True if the browser is connected by TLS, for example to a proxy.

        A client can forge the header, but only makes its own cookie ``Secure`` with it.
        """
        forwarded = request.headers.get("X-Forwarded-Proto", "").split(",")[0].strip().lower()
        public = self._public is not None and self._public.scheme == "https"
        return public or request.secure or forwarded == "https"

    def form_key(self, request: web.Request) -> str:
        """CSRF token for a form's hidden field, derived from the workers' key and the browser's cookie."""
        return hmac.new(self._key, request.cookies.get(COOKIE, "").encode(), sha256).hexdigest()

    def message_mac(self, text: str) -> str:
        """MAC that shows later that one of these workers wrote ``text``."""
        return hmac.new(self._key, f"message {text}".encode(), sha256).hexdigest()

    def is_message_mac(self, text: str, given: str) -> bool:
        """True if the MAC proves that one of these workers wrote ``text``."""
        return hmac.compare_digest(self.message_mac(text).encode(), given.encode(errors="replace"))

    def is_our_form(self, request: web.Request, key: str) -> bool:
        """True if a form with this CSRF token comes from one of these workers."""
        right = self.form_key(request).encode()
        return self.is_our_page(request) and hmac.compare_digest(right, key.encode(errors="replace"))

    def is_our_page(self, request: web.Request) -> bool:
        """True if the browser's headers say that the request comes from a page of the workers."""
        site = request.headers.get("Sec-Fetch-Site")
        origin = request.headers.get("Origin")
        if site is not None and site != "same-origin":
            return False
        if origin == "null":
            # ``null`` is normal for pages without referrer, as ours are; then Sec-Fetch-Site must confirm it.
            return site == "same-origin"
        if origin is None:
            return True
        try:
            host = urlsplit(origin).netloc
        except ValueError:
            return False
        return host == request.host or (self._public is not None and host == self._public.netloc)

    def _address(self, request: web.Request) -> str | None:
        """The client's address; behind a proxy, the address that the proxy has added."""
        forwarded = request.headers.getall("X-Forwarded-For", [])
        if self._public is None or not forwarded:
            return request.remote
        return forwarded[-1].rpartition(",")[2].strip()

    def _peer(self, request: web.Request, given: str) -> Caller:
        if self.peer_key is None:
            raise RefusedError(401, "this worker has no peer key: start it with --peer-key")
        asked = PeerRequest(url=self._url, method=request.method, path=request.raw_path)
        try:
            nonce = self.peer_key.check(given, asked)
        except PeerRefusedError as exc:
            raise RefusedError(401, f"{SCHEME}: {exc}") from exc
        return Caller(role=Role.VIEWER, nonce=nonce)


def tokens_for(host: str, tokens: Path | None) -> dict[str, Role] | None:
    """The roles by token for pages on ``host``; None: no token is needed.

    Raises:
        UsageError: the address needs a file of tokens, or the file cannot be used.
    """
    if tokens is not None:
        return read_tokens(tokens)
    if not is_loopback_host(host):
        raise UsageError(
            f"--web-host {host}: other machines reach it: name a file with --web-tokens, with lines "
            "such as operator:… or viewer:…"
        )
    return None


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
