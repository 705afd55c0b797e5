"""Opens what a command needs at the address that it is given: a reader, a log, an administration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from triggerstream import variables
from triggerstream.cli.options import no_kafka
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.engine.ports import Log, Reader
from triggerstream.settings import (
    Address,
    locate,
)

if TYPE_CHECKING:
    from triggerstream.engine.configuration_cache import ConfigurationCache
    from triggerstream.engine.operations.administration import Administration
    from triggerstream.engine.queries.view import View

_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of ``work``."""
    return asyncio.run(work)


def existing(at: str) -> Address:
    """The address that ``--at`` names; a database must be there already.

    Raises:
        UsageError: there is no database; a command that reads never creates one.
    """
    address = locate(at)
    quiet()
    missing = address.missing_file
    if missing is not None:
        raise UsageError(
            f"{missing}: there is no state directory here yet: {advice.begin_directory(variables.AT)}"
        )
    return address


def quiet() -> None:
    """Limit what libraries log to standard error: nothing of aiokafka, a bounded number of lines of others.

    A command prints the error that it raises, in one line. Lines of our own are written with their facts.
    """
    from triggerstream.cli.console_log import ConsoleFormatter
    from triggerstream.engine.loglimit import LIMIT

    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("aiokafka").propagate = False
    if logging.lastResort is not None:
        logging.lastResort.addFilter(LIMIT)
        logging.lastResort.setFormatter(ConsoleFormatter("%(message)s"))


def administered(at: str | None, why: str) -> Administration:
    """The administration of the app that ``--at`` names; ``why``: the reason why it must be in Kafka.

    Raises:
        UsageError: it names no app in Kafka.
    """
    from triggerstream import bootstrap

    address = None if at is None else locate(at)
    if address is None or not address.administered:
        raise no_kafka(address, why)
    quiet()
    return bootstrap.administration(address)


@asynccontextmanager
async def viewing(at: str) -> AsyncIterator[View]:
    """A view of the sessions at the address that ``--at`` names."""
    from triggerstream.engine.configuration_cache import ConfigurationCache
    from triggerstream.engine.queries.view import View

    configurations = ConfigurationCache()
    async with reading(at, configurations) as reader:
        yield View(reader, app=existing(at).app, configurations=configurations)


@asynccontextmanager
async def reading(at: str, configurations: ConfigurationCache | None = None) -> AsyncIterator[Reader]:
    """A reader at the address that ``--at`` names, which takes parsed tasks files from ``configurations``."""
    from triggerstream import bootstrap

    reader = bootstrap.reader(existing(at), configurations)
    try:
        yield reader
    finally:
        await reader.close()


@asynccontextmanager
async def appending(at: str) -> AsyncIterator[Log]:
    """The log at the address that ``--at`` names, to append to."""
    from triggerstream import bootstrap

    log = bootstrap.log(existing(at))
    try:
        yield log
    finally:
        await log.close()
