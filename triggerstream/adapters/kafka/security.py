"""TLS and SASL for the connection to brokers, and the app's control key: one file for every client.

::

    {
      "tls": {"ca": "ca.crt", "cert": "user.crt", "key": "user.key"},
      "sasl": {"mechanism": "SCRAM-SHA-512", "username": "worker", "password_file": "password"},
      "control_key_file": "control.key"
    }

Every part is optional. Secrets are in separate files, which are read each time a client is made, and are
refused if others can read them. A relative path is relative to the folder of the file. Control keys are
explained in :mod:`triggerstream.wire.signature`; they are read once, together with the file itself.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.engine.secret_files import read_secret
from triggerstream.wire.json import loads
from triggerstream.wire.signature import ControlKeys, read_keys

PLAIN = "PLAIN"
MECHANISMS = (PLAIN, "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS settings. ``ca``: the CA of the brokers' certificates; None: those that this machine trusts.

    ``cert`` and ``key`` are the client's own, where brokers ask for one.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sasl:
    """An account at the brokers."""

    mechanism: str
    username: str
    password_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """TLS and account for connections to brokers; ``source`` names the file."""

    source: str = ""
    tls: Tls | None = None
    sasl: Sasl | None = None
    control: ControlKeys | None = field(default=None, repr=False)

    @property
    def protocol(self) -> str:
        """Kafka's name of the protocol."""
        encrypted = "PLAINTEXT" if self.tls is None else "SSL"
        return encrypted if self.sasl is None else f"SASL_{encrypted}"

    def options(self) -> dict[str, Any]:
        """The options for a client of aiokafka. The files are read now.

        Raises:
            UsageError: one of them cannot be used.
        """
        if self.tls is None and self.sasl is None:
            return {}
        options: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.context()}
        if self.sasl is not None:
            options |= {
                "sasl_mechanism": self.sasl.mechanism,
                "sasl_plain_username": self.sasl.username,
                "sasl_plain_password": self.password(),
            }
        return options

    def context(self) -> ssl.SSLContext | None:
        """The TLS context, with the certificates read now.

        Raises:
            UsageError: they cannot be used.
        """
        tls = self.tls
        if tls is None:
            return None
        try:
            context = ssl.create_default_context(cafile=tls.ca)
        except OSError as exc:
            raise _unusable(self.source, "/tls/ca", tls.ca, exc) from exc
        if tls.cert is not None:
            if tls.key is not None:
                _secret(self.source, "/tls/key", tls.key)
            try:
                # Without a password, OpenSSL would ask the terminal for that of an encrypted key.
                context.load_cert_chain(tls.cert, tls.key, password="")
            except OSError as exc:
                raise _unusable(self.source, "/tls/cert, /tls/key", tls.cert, exc) from exc
        return context

    def password(self) -> str:
        """The account's password, read now, without the line break at the end of the file.

        Raises:
            UsageError: it cannot be read.
        """
        if self.sasl is None:
            return ""
        path = self.sasl.password_file
        try:
            password = _secret(self.source, "/sasl/password_file", path).decode().rstrip("\r\n")
        except UnicodeDecodeError as exc:
            raise _unusable(self.source, "/sasl/password_file", path, exc) from exc
        if not password:
            raise UsageError(f"{self.source}: /sasl/password_file: {path} is empty")
        return password


def _secret(source: str, place: str, path: Path) -> bytes:
    try:
        return read_secret(path)
    except UsageError as exc:
        raise UsageError(f"{source}: {place}: {exc}") from exc


def _unusable(source: str, place: str, path: Path | None, exc: Exception) -> UsageError:
    why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return UsageError(f"{source}: {place}: {path} cannot be used: {why}")


PLAINTEXT = Security()
"""No encryption and no authentication."""


def read(path: Path) -> Security:
    """Read the file at ``path``.

    Raises:
        UsageError: it cannot be used; the message names the place and what would be right.
    """
    try:
        value = loads(path.read_bytes())
    except (OSError, DecodeError) as exc:
        raise UsageError(f"{path}: {exc.strerror if isinstance(exc, OSError) else exc}") from exc
    return _Reader(path).security(value)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path

    def security(self, value: Json) -> Security:
        members = self._object(value, "", {"tls", "sasl", "control_key_file"})
        tls = self._tls(members["tls"]) if "tls" in members else None
        sasl = self._sasl(members["sasl"], encrypted=tls is not None) if "sasl" in members else None
        return Security(source=str(self._path), tls=tls, sasl=sasl, control=self._control(members))

    def _tls(self, value: Json) -> Tls:
        members = self._object(value, "/tls", {"ca", "cert", "key"})
        if ("cert" in members) != ("key" in members):
            raise self._wrong("/tls", "a client's certificate is two files: name cert and key, or neither")
        ca, cert, key = (self._file(members, name, "/tls") for name in ("ca", "cert", "key"))
        return Tls(ca=ca, cert=cert, key=key)

    def _sasl(self, value: Json, *, encrypted: bool) -> Sasl:
        names = {"mechanism", "username", "password_file", "allow_plaintext"}
        if isinstance(value, dict) and "password" in value:
            raise self._wrong("/sasl/password", "write it into a file, and name that as password_file")
        members = self._object(value, "/sasl", names)
        mechanism = self._text(members, "mechanism", "/sasl")
        if mechanism not in MECHANISMS:
            raise self._wrong("/sasl/mechanism", f"{mechanism!r}: write {', '.join(MECHANISMS)}")
        allowed = members.get("allow_plaintext", False)
        if not isinstance(allowed, bool):
            raise self._wrong("/sasl/allow_plaintext", "write true or false")
        if not encrypted and mechanism == PLAIN:
            raise self._wrong(
                "/sasl", 'PLAIN without TLS sends the password for all to read: add "tls": {"ca": FILE}'
            )
        if not encrypted and not allowed:
            raise self._wrong(
                "/sasl",
                f"{mechanism} without TLS keeps the password only, and no event: "
                'add "tls": {"ca": FILE}, or "allow_plaintext": true where nobody else can listen',
            )
        password_file = self._file(members, "password_file", "/sasl")
        if password_file is None:
            raise self._wrong("/sasl/password_file", "is missing: name the file that holds the password")
        return Sasl(
            mechanism=mechanism,
            username=self._text(members, "username", "/sasl"),
            password_file=password_file,
        )

    def _control(self, members: Mapping[str, Json]) -> ControlKeys | None:
        path = self._file(members, "control_key_file", "")
        if path is None:
            return None
        try:
            return read_keys(_secret(str(self._path), "/control_key_file", path).decode("utf-8-sig"))
        except (UnicodeDecodeError, DecodeError) as exc:
            raise _unusable(str(self._path), "/control_key_file", path, exc) from exc

    def _object(self, value: Json, place: str, names: Collection[str]) -> JsonObject:
        if not isinstance(value, dict):
            raise self._wrong(place or "/", f"must be an object with {', '.join(sorted(names))}")
        for name in value:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
                raise self._wrong(f"{place}/{name}", f"is not known: {hint}")
        return value

    def _text(self, members: Mapping[str, Json], name: str, place: str) -> str:
        value = members.get(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(f"{place}/{name}", "must be a text that is not empty")
        return value

    def _file(self, members: Mapping[str, Json], name: str, place: str) -> Path | None:
        return self._path.parent / self._text(members, name, place) if name in members else None

    def _wrong(self, place: str, what: str) -> UsageError:
        return UsageError(f"{self._path}: {place}: {what}")
