"""Addresses of apps and databases, and the directory that is used if none is named."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias
from urllib.parse import urlsplit

from triggerstream.core.errors import UsageError
from triggerstream.core.ids import KAFKA_APP_RULE, AppId, is_kafka_app
from triggerstream.engine.database_file import DATABASE, database_file

DEFAULT_APP = AppId("triggerstream")
DEFAULT_DIRECTORY = ".triggerstream"
DEFAULT_PORT = 8777


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteAddress:
    """A database file: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``."""

    path: Path

    app: ClassVar[AppId] = DEFAULT_APP
    administered: ClassVar[bool] = False

    @property
    def state_directory(self) -> Path | None:
        """Its state directory; None if the file has another name than the default."""
        return self.path.parent if self.path.name == DATABASE else None

    @property
    def missing_file(self) -> Path | None:
        """The file, if it does not exist."""
        return None if self.path.is_file() else self.path

    def __str__(self) -> str:
        return f"sqlite:///{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAddress:
    """An HTTP intake: ``http://127.0.0.1:8777``."""

    url: str

    app: ClassVar[AppId] = DEFAULT_APP
    administered: ClassVar[bool] = False
    state_directory: ClassVar[None] = None
    missing_file: ClassVar[None] = None

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAddress:
    """An app in a Kafka cluster: ``kafka://host:9092,other:9092/app``; ``bootstrap`` is what comes first."""

    bootstrap: str
    app: AppId

    administered: ClassVar[bool] = True
    state_directory: ClassVar[None] = None
    missing_file: ClassVar[None] = None

    def __str__(self) -> str:
        return f"kafka://{self.bootstrap}/{self.app}"


Address: TypeAlias = SqliteAddress | HttpAddress | KafkaAddress
"""Each has:

- ``app``: the app whose sessions are there
- ``administered``: whether it has topics and groups to administer, and a command applies its tasks files
- ``state_directory``: the state directory that the address names, if it names one
- ``missing_file``: the file that the address needs and that is not there, as far as this machine knows
"""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_EXAMPLES = (
    "sqlite:///path/to/triggerstream.db, http://127.0.0.1:8777 or kafka://127.0.0.1:9092/triggerstream"
)
_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_LAST_PORT = 65_535


def parse_address(text: str) -> Address:
    """The address that ``text`` names.

    Raises:
        UsageError: it is not an address; the message shows a valid one.
    """
    match = _SCHEME.match(text)
    if match is None:
        raise UsageError(f"{text!r} is not an address: write {_EXAMPLES}")
    scheme = match[1].lower()
    if scheme == "sqlite":
        return _sqlite(text, text[match.end() :])
    if scheme in {"http", "https"}:
        return _http(text)
    if scheme == "kafka":
        return _kafka(text, text[match.end() :])
    raise UsageError(f"{text}: there is no scheme {scheme!r}: write {_EXAMPLES}")


def kafka_address(brokers: str, app: str) -> KafkaAddress:
    """The address of an app in the cluster of ``brokers``, which are written with commas between them.

    Raises:
        UsageError: a broker or the app's name is not valid.
    """
    return _kafka(f"kafka://{brokers}/{app}", f"{brokers}/{app}")


def locate(text: str) -> Address:
    """Parse the value of ``--at``: an address, a state directory, or a database file.

    Raises:
        UsageError: an address of an unknown kind, or an invalid path.
    """
    if _SCHEME.match(text):
        return parse_address(text)
    return SqliteAddress(path=_database_file(text, Path(text)))


def _sqlite(text: str, rest: str) -> SqliteAddress:
    path = rest.removeprefix("/")
    if path == rest:
        raise UsageError(
            f"{text}: write three slashes before a relative path (sqlite:///state/triggerstream.db), "
            "four before an absolute one (sqlite:////var/lib/triggerstream.db)"
        )
    if not path or path == ":memory:":
        raise UsageError(f"{text}: name a file; what is only in memory is not durable")
    return SqliteAddress(path=_database_file(text, Path(path)))


def _database_file(text: str, path: Path) -> Path:
    if "\0" in text:
        raise UsageError(f"{text!r}: a path must not contain NUL")
    try:
        return database_file(path)
    except OSError as exc:
        raise UsageError(f"{text}: cannot be accessed: {exc.strerror}") from exc


def _http(text: str) -> HttpAddress:
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        usable = usable and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"{text}: write a host and a port, such as http://127.0.0.1:{DEFAULT_PORT}")
    return HttpAddress(url=text.rstrip("/"))


def _kafka(text: str, rest: str) -> KafkaAddress:
    bootstrap, _, app = rest.partition("/")
    for broker in bootstrap.split(","):
        match = _BROKER.fullmatch(broker)
        if match is None or not 0 < int(match[2]) <= _LAST_PORT:
            raise UsageError(
                f"{text}: {broker!r} is not a broker: write hosts with their ports and the app, such as "
                f"kafka://127.0.0.1:9092/{DEFAULT_APP} or kafka://one:9092,two:9092/{DEFAULT_APP}"
            )
    app = app.removesuffix("/") or DEFAULT_APP
    if not is_kafka_app(app):
        raise UsageError(f"{text}: an app's name {KAFKA_APP_RULE}")
    return KafkaAddress(bootstrap=bootstrap, app=AppId(app))
