"""All workers as one: what this process does not have is asked of the worker that has it, within a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.events import Order
from triggerstream.core.ids import Json, JsonObject, SessionId
from triggerstream.engine.inspect import ElsewhereError, Inspector, Query, merged, partition_row
from triggerstream.wire.json import as_object, loads

TIMEOUT_S = 3.0
HERE = "here"
"""The parameter that has a worker answer for itself alone."""
_OK = 200
_NOT_FOUND = 404


class PeerError(LogError):
    """Another worker did not answer as it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker of the group. ``url`` None: its pages cannot be reached from here, and ``says`` why."""

    name: str
    url: str | None
    says: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Who has what: the other workers by partition, as the group told this one last."""

    others: Mapping[int, Worker]

    def workers(self) -> list[Worker]:
        """Each of them once."""
        return list({worker.name: worker for worker in self.others.values()}.values())


class Peers:
    """Asks other workers. One for a process; ``close`` it."""

    def __init__(self, group: Callable[[], Group]) -> None:
        self.group = group
        self._http: aiohttp.ClientSession | None = None

    async def ask(self, worker: Worker, path: str, *, token: str | None) -> JsonObject | None:
        """What ``worker`` itself answers; None: it knows nothing of it.

        Raises:
            PeerError: it does not answer in time, or not as it should.
        """
        if worker.url is None:
            raise PeerError(f"{worker.name}: {worker.says}")
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        mark = "&" if "?" in path else "?"
        url = URL(f"{worker.url}{path}{mark}{HERE}=1", encoded=True)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            async with self._http.get(url, headers=headers, allow_redirects=False) as answer:
                body = await answer.read()
                status = answer.status
            found = as_object(loads(body), "")
        except TimeoutError as exc:
            raise PeerError(f"{worker.name} did not answer within {TIMEOUT_S:g} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise PeerError(f"{worker.name} cannot be reached: {type(exc).__name__}") from exc
        except DecodeError as exc:
            raise PeerError(f"{worker.name} did not answer as a worker would") from exc
        if status == _NOT_FOUND:
            return None
        if status != _OK:
            raise PeerError(f"{worker.name} answered {status}: {found.get('error')}")
        return found

    async def close(self) -> None:
        """Let go of connections."""
        if self._http is not None:
            await self._http.close()


class Everywhere:
    """An :class:`triggerstream.engine.inspect.Inspector` for all workers, asked with the caller's token."""

    def __init__(self, here: Inspector, peers: Peers, *, token: str | None) -> None:
        self._here = here
        self._peers = peers
        self._token = token

    async def overview(self) -> JsonObject:
        """All partitions; of a worker that does not answer, only which ones it has."""
        own, others = await self._gathered(self._here.overview(), "/v1/overview")
        partitions = {cast("int", row["partition"]): row for row in _rows(own, "partitions")}
        workers = _rows(own, "workers")
        for worker, found in others:
            says = str(found) if isinstance(found, LogError) else None
            workers.append({"url": worker.url or worker.name, "own": False, "says": says})
            if not isinstance(found, LogError):
                for row in _rows(found, "partitions"):
                    number = cast("int", row["partition"])
                    partitions.setdefault(number, {**row, "own": False, "owner": worker.url})
        for number, worker in self._peers.group().others.items():
            owner = worker.url or worker.name
            partitions.setdefault(number, partition_row(number, owner=owner, own=False, phase="unknown"))
        return {
            **own,
            "workers": list(workers),
            "partitions": [partitions[number] for number in sorted(partitions)],
        }

    async def session(self, session: SessionId) -> JsonObject | None:
        """A session, of the worker that has it."""
        try:
            return await self._here.session(session)
        except ElsewhereError as exc:
            worker = self._peers.group().others.get(exc.partition)
            if worker is None:
                raise UsageError(
                    f"partition {exc.partition} has no owner at the moment: ask again in a moment"
                ) from exc
        return await self._peers.ask(worker, f"/v1/sessions/{quote(session, safe='')}", token=self._token)

    async def sessions(self, query: Query) -> JsonObject:
        """One page of all; ``missing`` says of whom there is none."""
        wanted = query.filter
        values = {
            "prefix": query.prefix,
            "after": query.after,
            "limit": query.limit,
            "task": wanted.task,
            "status": wanted.status,
            "waitsFor": wanted.waits_for,
        }
        path = f"/v1/sessions?{urlencode({k: v for k, v in values.items() if v not in {None, ''}})}"
        own, others = await self._gathered(self._here.sessions(query), path)
        pages = [own, *(found for _, found in others if not isinstance(found, LogError))]
        missing: list[Json] = [str(found) for _, found in others if isinstance(found, LogError)]
        return {**merged(pages, limit=query.limit), "missing": missing}

    async def configuration(self) -> JsonObject | None:
        """The configuration in force: of this worker, else of the first that has one."""
        if (own := await self._here.configuration()) is not None:
            return own
        failed: LogError | None = None
        for worker in self._peers.group().workers():
            try:
                found = await self._peers.ask(worker, "/v1/configuration", token=self._token)
            except LogError as exc:
                failed = exc
            else:
                if found is not None and found["hash"] is not None:
                    return found
        if failed is not None:
            raise failed
        return None

    async def dead_letters(self, *, after: int, limit: int) -> JsonObject:
        """They are in a topic that each worker can read."""
        return await self._here.dead_letters(after=after, limit=limit)

    async def append(self, session: SessionId, order: Order) -> int:
        """Each worker can append for each session."""
        return await self._here.append(session, order)

    async def _gathered(
        self, own: Coroutine[Any, Any, JsonObject], path: str
    ) -> tuple[JsonObject, list[tuple[Worker, JsonObject | LogError]]]:
        workers = self._peers.group().workers()
        mine, *rest = await asyncio.gather(own, *(self._asked(worker, path) for worker in workers))
        return cast("JsonObject", mine), list(zip(workers, rest, strict=True))

    async def _asked(self, worker: Worker, path: str) -> JsonObject | LogError:
        try:
            found = await self._peers.ask(worker, path, token=self._token)
        except LogError as exc:
            return exc
        return PeerError(f"{worker.name} knows no {path}") if found is None else found


def _rows(found: JsonObject, name: str) -> list[JsonObject]:
    return list(cast("list[JsonObject]", found.get(name) or []))
