"""Hands commands to Celery's broker: the Dispatcher port.

One thread and one connection publish, in the order asked for. What waits is published in one batch: with
Redis one round trip. ``docs/celery.md`` has the figures.
"""

from __future__ import annotations

import asyncio
import queue
import struct
import threading
from collections.abc import Collection
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from triggerstream.adapters.celery.connection import ConfirmedConnection
from triggerstream.adapters.celery.delivery import HEADER, HEADER_BYTES, header_of
from triggerstream.adapters.celery.outcomes import NotReportableError, plain
from triggerstream.core.commands import Command, Decision
from triggerstream.core.errors import DecodeError, DispatchError, UndispatchableError
from triggerstream.wire.json import dumps

if TYPE_CHECKING:
    from celery import Celery

COMMAND_BYTES = 1024 * 1024
DEFAULT_TIMEOUT_S = 10.0
_BATCH = 50
"""So many share one round trip and one wake-up of the event loop; the first waits for the last, 10 ms."""
_REPR_CHARS = 200
_CELERYS_OWN = "celery."
_ROUTING = ("queue", "exchange", "routing_key", "priority", "delivery_mode")


@dataclass(frozen=True, slots=True)
class _Job:
    decision: Decision
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


_Answer: TypeAlias = tuple[_Job, Exception | None]


class CeleryDispatcher:
    """Publishes commands under their own ids, as JSON, and waits until the broker has them.

    Args:
        app: the Celery app whose broker and routes are used. Its tasks need not be importable here.
        allow: names of Celery tasks that may be run; None: all but Celery's own.
        timeout_s: after this an unconfirmed command counts as not handed over.
    """

    def __init__(
        self, app: Celery, *, allow: Collection[str] | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self._app = app
        self._allow = None if allow is None else frozenset(allow)
        self._timeout_s = timeout_s
        self._publisher: _Publisher | None = None
        self._closed = False

    async def dispatch(self, decision: Decision) -> None:
        """Hand over one command, or ask workers to drop one. The broker has confirmed it on return.

        Raises:
            DispatchError: the broker did not confirm it. Safe to call again.
            UndispatchableError: it never will be accepted; the message is the reason.
        """
        if self._closed:
            raise DispatchError("the dispatcher is closed")
        if isinstance(decision, Command):
            self._check(decision)
        if self._publisher is None:
            self._publisher = _Publisher(self._app, timeout_s=self._timeout_s)
        publisher = self._publisher
        loop = asyncio.get_running_loop()
        job = _Job(decision, loop, loop.create_future())
        publisher.submit(job)
        try:
            async with asyncio.timeout(self._timeout_s):
                await job.done
        except TimeoutError as exc:
            # Its thread hangs in the broker's connection: leave both, begin anew with the next command.
            publisher.leave()
            if self._publisher is publisher:
                self._publisher = None
            raise DispatchError(f"the Celery broker did not confirm within {self._timeout_s:g} s") from exc

    async def close(self) -> None:
        """Let go of the connection. What was not confirmed by now is not known to be handed over."""
        self._closed = True
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.leave()
            await asyncio.to_thread(publisher.join, self._timeout_s)

    def _check(self, command: Command) -> None:
        if command.run.startswith(_CELERYS_OWN):
            raise UndispatchableError(
                f"{command.run}: tasks of Celery's own can run any other task; none is ever dispatched"
            )
        if self._allow is not None and command.run not in self._allow:
            raise UndispatchableError(f"{command.run} is not on the list of tasks that may be dispatched")
        try:
            size = len(dumps(plain(command.kwargs)))
        except (NotReportableError, DecodeError) as exc:
            raise UndispatchableError(f"the arguments of {command.run} are no JSON: {exc}") from exc
        if size > COMMAND_BYTES:
            raise UndispatchableError(
                f"the arguments of {command.run} take {size:,} bytes; at most {COMMAND_BYTES:,} do"
            )


class _Publisher:
    """A thread with a connection.

    Once left, it publishes nothing more and ends when its connection lets it.
    """

    def __init__(self, app: Celery, *, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._left = False
        self._connection = ConfirmedConnection(app, timeout_s=timeout_s)
        self._declared: set[tuple[object, str]] = set()
        self._thread = threading.Thread(target=self._work, name="triggerstream-dispatch", daemon=True)
        self._thread.start()

    def submit(self, job: _Job) -> None:
        self._jobs.put(job)

    def leave(self) -> None:
        self._left = True
        self._jobs.put(None)

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while batch := self._next_batch():
            _answer(self._carry_out(batch))
        self._disconnect()

    def _next_batch(self) -> list[_Job]:
        """What is to be done now, in order; empty when nothing more is."""
        batch: list[_Job] = []
        while (job := self._jobs.get()) is not None:
            batch.append(job)
            if len(batch) == _BATCH or self._jobs.empty():
                return batch
        if batch:
            self._jobs.put(None)
        return batch

    def _carry_out(self, batch: list[_Job]) -> list[_Answer]:
        if self._left:
            return [
                (job, DispatchError("the dispatcher was closed before this command's turn")) for job in batch
            ]
        try:
            producer = self._connection.producer()
            # One alone is sent as it is: a batch costs it another 0.3 ms.
            with producer.batch(max_size=_BATCH) if len(batch) > 1 else nullcontext():
                return [(job, self._try(job.decision)) for job in batch]
        except self._connection.errors() as exc:
            # Which of them the broker has is not known: all may be sent again.
            self._disconnect()
            why = f"the Celery broker did not accept the message: {type(exc).__name__}: {exc}"
            return [(job, DispatchError(why)) for job in batch]
        except Exception as exc:  # noqa: BLE001 - it is raised where the commands are waited for
            return [(job, exc) for job in batch]

    def _try(self, decision: Decision) -> Exception | None:
        """Do one of a batch; what is wrong with this one alone is returned."""
        try:
            if isinstance(decision, Command):
                self._publish(decision)
            else:
                self._revoke(decision.id)
        except self._connection.errors():
            raise
        except (struct.error, UnicodeError) as exc:
            # AMQP has a queue's name in a field of 255 bytes, for example.
            return UndispatchableError(f"the broker's protocol cannot say it: {exc}")
        except Exception as exc:  # noqa: BLE001 - it is raised where the command is waited for
            return exc
        return None

    def _publish(self, command: Command) -> None:
        app, amqp = self._app, self._app.amqp
        producer = self._connection.producer()
        # Asked of the registry itself: `app.tasks` would import the tasks, which need not be importable here.
        known: Any = app._tasks.get(command.run)  # type: ignore[attr-defined]  # noqa: SLF001
        options: dict[str, Any] = {}
        if known is not None:
            options = {
                name: getattr(known, name) for name in _ROUTING if getattr(known, name, None) is not None
            }
        if command.queue is not None:
            options = {"queue": command.queue}
        options = amqp.router.route(options, command.run, (), command.kwargs, known)
        queue = options.get("queue")
        goes_to = (getattr(queue, "name", queue), str(options.get("exchange")))
        if goes_to in self._declared:
            # kombu would remember it, too, but copies the queue first: a fifth of all the time it takes.
            options["declare"] = []
        message = amqp.as_task_v2(
            command.id,
            command.run,
            (),
            command.kwargs,
            retries=command.retries,
            # The header only. As the message's own time-to-live RabbitMQ would drop it, and nobody would
            # report that.
            expires=None if command.expires_us is None else command.expires_us / 1_000_000,
            ignore_result=None,  # type: ignore[arg-type]  # the task's own choice
            argsrepr="()",
            kwargsrepr=f"<{', '.join(command.kwargs)}>"[:_REPR_CHARS],
        )
        header = header_of(command)
        if (size := len(dumps(header)) + len(command.run.encode())) > HEADER_BYTES:
            raise UndispatchableError(
                f"the names of {command.run[:80]} and its task take {size:,} bytes: at most {HEADER_BYTES:,}"
            )
        headers: dict[str, object] = {HEADER: header}
        if command.traceparent is not None:
            headers["traceparent"] = command.traceparent
        amqp.send_task_message(
            producer,
            command.run,
            message,
            headers=headers,
            serializer="json",
            retry=False,
            timeout=self._timeout_s,
            confirm_timeout=self._timeout_s,
            **options,
        )
        self._declared.add(goes_to)

    def _revoke(self, command: str) -> None:
        self._app.control.revoke(command, connection=self._connection.connection())

    def _disconnect(self) -> None:
        self._declared.clear()
        self._connection.close()


def _answer(answers: list[_Answer]) -> None:
    for loop in {job.loop for job, _ in answers}:
        mine = [(job.done, error) for job, error in answers if job.loop is loop]
        # A loop that is closed has nobody waiting.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(answers: list[tuple[asyncio.Future[None], Exception | None]]) -> None:
    for done, error in answers:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
