"""The only place that picks concrete classes. Each is imported once it is chosen."""

from __future__ import annotations

from triggerstream.core.errors import UsageError
from triggerstream.engine.ports import Log, OutcomeLog, Reader
from triggerstream.settings import Address, HttpAddress, SqliteAddress, parse_address


def log(address: str | Address, *, timeout_s: float = 10.0) -> Log:
    """The log at ``address``; nothing is opened before the first append.

    Raises:
        UsageError: ``address`` is none, or of a kind that this release does not have.
    """
    match _parsed(address):
        case SqliteAddress(path=path):
            from triggerstream.adapters.sqlite.log import SqliteLog

            return SqliteLog(path)
        case HttpAddress(url=url):
            from triggerstream.adapters.http import HttpLog

            return HttpLog(url, timeout_s=timeout_s)


def outcome_log(address: str | Address) -> OutcomeLog:
    """Where a worker process reports outcomes.

    Raises:
        UsageError: ``address`` is none, or outcomes cannot be reported there.
    """
    from triggerstream.adapters.sqlite.log import SqliteLog

    return SqliteLog(_database(address, "outcomes are reported to").path)


def reader(address: str | Address) -> Reader:
    """A view of what is known at ``address``.

    Raises:
        UsageError: ``address`` is none, or cannot be looked into.
    """
    from triggerstream.adapters.sqlite.reader import SqliteReader

    return SqliteReader(_database(address, "sessions are read from").path)


def _parsed(address: str | Address) -> Address:
    return parse_address(address) if isinstance(address, str) else address


def _database(address: str | Address, what: str) -> SqliteAddress:
    parsed = _parsed(address)
    if not isinstance(parsed, SqliteAddress):
        raise UsageError(f"{parsed}: {what} a database, such as sqlite:///path/to/triggerstream.db")
    return parsed
