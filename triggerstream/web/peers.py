"""Queries to other workers, so that each worker's pages show the sessions of all workers.

A worker is asked only if the peer key proves its address, and an answer is shown only if the key proves it.
Without a key, a worker shows only its own sessions and says so. No user's token leaves this process, and
orders are never sent to another worker: each worker appends them itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from msgspec import Struct, structs
from yarl import URL

from triggerstream.core.answers import ExplainedSession, SessionsPage
from triggerstream.core.errors import DecodeError, LogError, UsageError
from triggerstream.core.ids import SessionId, TaskName
from triggerstream.engine.operations.following import LogPosition
from triggerstream.engine.operations.orders import AddressedOrder
from triggerstream.engine.queries.answers import (
    DeadLettersPage,
    Overview,
    PartitionRow,
    ShownConfiguration,
    WorkerRow,
)
from triggerstream.engine.queries.inspector import ElsewhereError, Inspector, Query, merged
from triggerstream.engine.queries.past import PAGE_S, Moment, format_moment
from triggerstream.web.filters import parameters_of
from triggerstream.web.peeranswers import read_answer
from triggerstream.web.peerkey import ANSWER_HEADER, PeerKey, PeerRequest

_T = TypeVar("_T", bound=Struct)

TIMEOUT_S = 3.0
LONGEST_ANSWER = 64 * 1024 * 1024
"""Maximum size of an answer. The JSON of a session's page, and 200 rows of a list, stay well below this."""
HERE = "here"
"""The parameter that has a worker answer for itself alone."""
NO_KEY = "this worker has no --peer-key, and shows only what it owns itself"


class PeerError(LogError):
    """Another worker did not answer as it should."""


class NotAskedError(ElsewhereError):
    """Another worker has the session, and this worker has no peer key to ask it."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition)
        self.args = (f"partition {partition} belongs to another worker: {NO_KEY}",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerWorker:
    """A worker of the group. ``url`` None: its pages cannot be reached from here, and ``says`` why."""

    name: str
    url: str | None
    says: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerGroup:
    """The other workers by partition, from the last assignment of the group."""

    others: Mapping[int, PeerWorker]

    def workers(self) -> list[PeerWorker]:
        """The workers, each once even if it owns several partitions."""
        return list({worker.name: worker for worker in self.others.values()}.values())


class Peers:
    """Client for requests to other workers, with the shared peer key. One per process; ``close`` it."""

    def __init__(self, group: Callable[[], PeerGroup], key: PeerKey | None) -> None:
        self.group = group
        self.key = key
        self._http: aiohttp.ClientSession | None = None

    async def ask(
        self, worker: PeerWorker, path: str, kind: type[_T], *, timeout_s: float = TIMEOUT_S
    ) -> _T | None:
        """The answer of ``worker``; None: it does not have the requested object.

        Raises:
            PeerError: the worker is not asked, does not answer in time, or its answer is invalid.
        """
        if worker.url is None or self.key is None:
            raise PeerError(f"{worker.name}: {worker.says or NO_KEY}")
        if self._http is None:
            self._http = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
                trust_env=False,
            )
        path = f"{path}{'&' if '?' in path else '?'}{HERE}=1"
        header, nonce = self.key.authorization(PeerRequest(url=worker.url, method="GET", path=path))
        url = URL(f"{worker.url}{path}", encoded=True)
        try:
            async with self._http.get(
                url,
                headers={"Authorization": header},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer:
                body = await _body(answer)
                proof = answer.headers.get(ANSWER_HEADER, "")
                status = answer.status
        except TimeoutError as exc:
            raise PeerError(f"{worker.name} did not answer within {timeout_s:g} s") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise PeerError(f"{worker.name} cannot be reached: {type(exc).__name__}") from exc
        return self.read(worker, nonce, status=status, body=body, proof=proof, kind=kind)

    def read(
        self, worker: PeerWorker, nonce: str, *, status: int, body: bytes, proof: str, kind: type[_T]
    ) -> _T | None:
        """The content of an answer with the MAC ``proof``; None: the worker does not have the object.

        Raises:
            PeerError: the MAC or the content is invalid.
        """
        if self.key is None or not self.key.is_answer(proof, nonce=nonce, status=status, body=body):
            raise PeerError(
                f"{worker.name} answered nonsense ({status}): it does not prove that it has the peer key"
            )
        try:
            return read_answer(status, body, kind)
        except DecodeError as exc:
            raise PeerError(f"{worker.name} answered nonsense: {exc}") from exc

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """The body, up to the maximum size.

    Raises:
        ValueError: the body is longer.
    """
    parts, size = [], 0
    while part := await answer.content.readany():
        size += len(part)
        if size > LONGEST_ANSWER:
            raise ValueError(size)
        parts.append(part)
    return b"".join(parts)


class GroupInspector:
    """An :class:`triggerstream.engine.queries.inspector.Inspector` for all workers."""

    def __init__(self, here: Inspector, peers: Peers) -> None:
        self._here = here
        self._peers = peers

    async def overview(self) -> Overview:
        """All partitions; of a worker that does not answer, only which ones it has."""
        own, others = await self._gathered(self._here.overview(), "/v1/overview", Overview)
        partitions = {row.partition: row for row in own.partitions}
        workers = list(own.workers)
        for worker, found in others:
            says = str(found) if isinstance(found, LogError) else None
            workers.append(WorkerRow(url=worker.url or worker.name, own=False, says=says))
            if not isinstance(found, LogError):
                for row in found.partitions:
                    partitions.setdefault(row.partition, structs.replace(row, own=False, owner=worker.url))
        for number, worker in self._peers.group().others.items():
            owner = worker.url or worker.name
            unknown = PartitionRow(partition=number, owner=owner, own=False, phase="unknown")
            partitions.setdefault(number, unknown)
        return Overview(
            app=own.app,
            workers=workers,
            partitions=[partitions[number] for number in sorted(partitions)],
            owners=own.owners,
        )

    async def session(
        self, session: SessionId, *, task: TaskName | None = None, at: Moment | None = None
    ) -> ExplainedSession | None:
        """A session, from the worker that has it."""
        try:
            return await self._here.session(session, task=task, at=at)
        except ElsewhereError as exc:
            worker = self._owner(exc)
        asked = {"task": task, "at": None if at is None else format_moment(at)}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        path = f"/v1/sessions/{quote(session, safe='')}{'?' if query else ''}{query}"
        wait_s = TIMEOUT_S if at is None else PAGE_S + TIMEOUT_S
        return await self._peers.ask(worker, path, ExplainedSession, timeout_s=wait_s)

    async def sessions(self, query: Query) -> SessionsPage:
        """One page of all; ``missing`` says which workers' sessions it lacks."""
        values = {
            "prefix": query.prefix,
            "after": query.after,
            "limit": query.limit,
            **parameters_of(query.filter),
        }
        path = f"/v1/sessions?{urlencode({k: v for k, v in values.items() if v not in {None, ''}})}"
        own, others = await self._gathered(self._here.sessions(query), path, SessionsPage)
        pages = [own, *(found for _, found in others if not isinstance(found, LogError))]
        missing = [str(found) for _, found in others if isinstance(found, LogError)]
        return structs.replace(
            merged(pages, limit=query.limit, by_due=query.filter.due_by_us is not None), missing=missing
        )

    async def configuration(self) -> ShownConfiguration | None:
        """The configuration in force: of this worker, else of the first that has one."""
        failed: LogError | None = None
        try:
            if (own := await self._here.configuration()) is not None:
                return own
        except LogError as exc:
            failed = exc
        for worker in self._peers.group().workers():
            try:
                found = await self._peers.ask(worker, "/v1/configuration", ShownConfiguration)
            except LogError as exc:
                failed = exc
            else:
                if found is not None and found.hash is not None:
                    return found
        if failed is not None:
            raise failed
        return None

    async def dead_letters(self, *, after: int, limit: int) -> DeadLettersPage:
        """Dead letters, which every worker can read from their topic."""
        return await self._here.dead_letters(after=after, limit=limit)

    async def dead_letter(self, position: LogPosition) -> str | None:
        """A dead letter, which every worker can read from its topic."""
        return await self._here.dead_letter(position)

    async def progress(self, partition: int) -> int:
        """The next offset of ``partition`` that its engine will fold, as its owner says."""
        try:
            return await self._here.progress(partition)
        except ElsewhereError as exc:
            found = await self._peers.ask(self._owner(exc), "/v1/overview", Overview)
        for row in [] if found is None else found.partitions:
            if row.partition == partition and row.events is not None:
                return row.events
        raise UsageError(f"partition {partition} is changing hands: ask again in a moment")

    async def append(self, to: AddressedOrder) -> LogPosition:
        """Append an order. Every worker can append for every session."""
        return await self._here.append(to)

    def _owner(self, elsewhere: ElsewhereError) -> PeerWorker:
        """The worker that has the partition.

        Raises:
            UsageError: no worker has it, or this one must not ask.
        """
        worker = self._peers.group().others.get(elsewhere.partition)
        if worker is None:
            raise UsageError(
                f"partition {elsewhere.partition} has no owner at the moment: ask again in a moment"
            ) from elsewhere
        if self._peers.key is None:
            raise NotAskedError(elsewhere.partition) from elsewhere
        return worker

    async def _gathered(
        self, own: Coroutine[Any, Any, _T], path: str, kind: type[_T]
    ) -> tuple[_T, list[tuple[PeerWorker, _T | LogError]]]:
        workers = self._peers.group().workers()
        if self._peers.key is None and workers:
            return await own, [(_others(workers), PeerError(f"{_others(workers).name} not asked: {NO_KEY}"))]
        asked = asyncio.gather(*(self._asked(worker, path, kind) for worker in workers))
        mine, found = await asyncio.gather(own, asked)
        return mine, list(zip(workers, found, strict=True))

    async def _asked(self, worker: PeerWorker, path: str, kind: type[_T]) -> _T | LogError:
        try:
            found = await self._peers.ask(worker, path, kind)
        except LogError as exc:
            return exc
        return PeerError(f"{worker.name} knows no {path}") if found is None else found


def _others(workers: list[PeerWorker]) -> PeerWorker:
    """One placeholder for all workers that are not asked."""
    name = "another worker is" if len(workers) == 1 else f"{len(workers)} other workers are"
    return PeerWorker(name=name, url=None, says=NO_KEY)
