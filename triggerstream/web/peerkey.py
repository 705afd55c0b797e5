"""The key shared by the workers of an app, which authenticates their addresses, requests and answers.

Any member of the consumer group can announce an address. Without authentication, a worker would send requests
to a stranger and show the stranger's answers. So with a key of at least 32 bytes, the same for all workers:

- an announced address carries a MAC of the app and the address; workers never connect to one without;
- a request of one worker to another carries ``Authorization: Triggerstream-Peer EXPIRY.NONCE.MAC``, which
  is valid for that address, that path and at most 30 s; no user's token is sent with it;
- an answer carries a MAC of the request's nonce, the status and the body.

Each MAC is HMAC-SHA-256 in hex over fields with their lengths; the first field names the purpose.
The MACs do not hide the content: confidentiality is the task of TLS or of the network.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from yarl import URL

from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.engine.secret_files import read_secret

SCHEME = "Triggerstream-Peer"
ANSWER_HEADER = "Triggerstream-Peer"
PEER_KEY_BYTES = 32
LONGEST_S = 30
"""Maximum distance of an expiry from the target's clock."""
_AHEAD_S = 15
"""Distance of an expiry from the sender's clock, so that clocks may differ by this time in both
directions."""
_GIVEN = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")
_HEX = re.compile(rb"\s*([0-9A-Fa-f]+)\s*")
_MAC = "mac"
"""Query parameter of an announced address with its MAC."""


class PeerRefusedError(Exception):
    """A request that claims to come from a worker has no valid MAC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRequest:
    """A request as its sender dials it: ``url`` is the target's address, ``path`` includes the query."""

    url: str
    method: str
    path: str


class PeerKey:
    """The peer key. ``clock`` returns the time in seconds since the epoch."""

    def __init__(self, secret: bytes, *, app: AppId, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._app = app
        self._clock = clock

    def announced(self, url: str) -> str:
        """``url`` with its MAC, to be announced in the group."""
        return str(URL(url).update_query({_MAC: self._url_mac(url)}))

    def proven(self, announced: str) -> str | None:
        """The address in ``announced``, without its MAC; None if the MAC is invalid."""
        try:
            url = URL(announced)
            given = url.query.get(_MAC, "")
            bare = str(url.without_query_params(_MAC))
        except ValueError:
            return None
        return bare if _equal(self._url_mac(bare), given) else None

    def authorization(self, asked: PeerRequest) -> tuple[str, str]:
        """The header for a request, and the nonce that the MAC of its answer must cover."""
        expiry = str(int(self._clock()) + _AHEAD_S)
        nonce = secrets.token_hex(16)
        return f"{SCHEME} {expiry}.{nonce}.{self._request_mac(asked, expiry, nonce)}", nonce

    def check(self, authorization: str, asked: PeerRequest) -> str:
        """Verify the header of the request ``asked``; return its nonce.

        Raises:
            PeerRefusedError: no worker made it for this address and path just now.
        """
        match = _GIVEN.fullmatch(authorization.removeprefix(f"{SCHEME} "))
        if match is None:
            raise PeerRefusedError(f"write {SCHEME} EXPIRY.NONCE.MAC")
        expiry, nonce, given = match.groups()
        if not _equal(self._request_mac(asked, expiry, nonce), given):
            raise PeerRefusedError(f"not made with this worker's peer key for {asked.method} {asked.url}")
        left_s = int(expiry) - self._clock()
        if not 0 <= left_s <= LONGEST_S:
            raise PeerRefusedError("expired, or too far ahead: do the clocks of the workers differ?")
        return nonce

    def answer_mac(self, nonce: str, status: int, body: bytes) -> str:
        """The MAC of an answer."""
        digest = sha256(b"%d:%s" % (status, body)).digest()
        return self._mac(b"peer answer 1", nonce.encode(), digest)

    def is_answer(self, given: str, *, nonce: str, status: int, body: bytes) -> bool:
        """True if ``given`` is the MAC of an answer."""
        return _equal(self.answer_mac(nonce, status, body), given)

    def derived(self, purpose: str) -> bytes:
        """A key for another purpose, the same for all workers."""
        return bytes.fromhex(self._mac(b"peer key for", purpose.encode()))

    def _url_mac(self, url: str) -> str:
        return self._mac(b"peer url 1", self._app.encode(), url.encode())

    def _request_mac(self, asked: PeerRequest, expiry: str, nonce: str) -> str:
        parts = (asked.url, asked.method, asked.path, expiry, nonce)
        return self._mac(b"peer 1", *(part.encode() for part in parts))

    def _mac(self, *parts: bytes) -> str:
        message = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return hmac.new(self._secret, message, sha256).hexdigest()


def _equal(right: str, given: str) -> bool:
    return hmac.compare_digest(right.encode(), given.encode(errors="replace"))


def read_peer_key(path: Path, *, app: AppId) -> PeerKey:
    """The key in a file: at least 32 bytes, as they are or in hex.

    Raises:
        UsageError: the file cannot be used.
    """
    content = read_secret(path)
    match = _HEX.fullmatch(content)
    if match is not None:
        digits = match[1].decode()
        content = bytes.fromhex(digits) if len(digits) % 2 == 0 else b""
    if len(content) < PEER_KEY_BYTES:
        raise UsageError(
            f"{path}: a peer key has at least {PEER_KEY_BYTES} bytes: write one with `openssl rand -hex "
            f"{PEER_KEY_BYTES}`, and give the same file to every worker"
        )
    return PeerKey(content, app=app)
