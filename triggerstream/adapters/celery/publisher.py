"""The thread that publishes decisions to Celery's broker and waits for their confirmations."""

from __future__ import annotations

import asyncio
import queue
import struct
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from triggerstream.adapters.celery.connection import ConfirmedConnection
from triggerstream.adapters.celery.delivery import HEADER, HEADER_BYTES, header_of
from triggerstream.adapters.celery.refusal import NO_ROUTE, NOT_FOUND, Refusal, RefusalScope, refusal_of
from triggerstream.adapters.celery.routes import (
    UnroutableError,
    declared_by,
    destination_of,
    destination_or_none,
    route_of,
)
from triggerstream.core.commands import Command, Decision
from triggerstream.core.errors import DestinationError, DispatchError, UndispatchableError
from triggerstream.wire.json import dumps

if TYPE_CHECKING:
    from celery import Celery

_BATCH = 50
"""Commands that share one round trip and one wake-up of the event loop.

The first waits 10 ms for the last.
"""
_REPR_CHARS = 200


@dataclass(frozen=True, slots=True)
class Job:
    """A decision to be published, and the future of the event loop that waits for it."""

    decision: Decision
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


_Answer: TypeAlias = tuple[Job, Exception | None]


class Publisher:
    """A thread that publishes over its own connection.

    After :meth:`leave` it publishes nothing more, and ends as soon as a call on its connection returns.
    """

    def __init__(self, app: Celery, *, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._left = False
        self._connection = ConfirmedConnection(app, timeout_s=timeout_s, on_return=self._note_return)
        self._returned: BaseException | None = None
        self._suspects: set[str] = set()
        """Destinations that Redis refused last; bounded by the commands that wait for them."""
        self._declared: set[tuple[object, str]] = set()
        self._thread = threading.Thread(target=self._work, name="triggerstream-dispatch", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Publish the decision of ``job`` in its turn."""
        self._jobs.put(job)

    def leave(self) -> None:
        self._left = True
        self._jobs.put(None)

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while batch := self._next_batch():
            for part in self._parts(batch):
                _answer(self._carry_out(part))
        self._disconnect()

    def _parts(self, batch: list[Job]) -> list[list[Job]]:
        """Split ``batch``: commands to refused destinations are sent alone.

        Redis executes the rest of a batch after a refused command.
        """
        if not self._suspects:
            return [batch]
        together: list[Job] = []
        alone: list[Job] = []
        for job in batch:
            suspect = destination_or_none(self._app, job.decision) in self._suspects
            (alone if suspect else together).append(job)
        return [*([together] if together else []), *([job] for job in alone)]

    def _next_batch(self) -> list[Job]:
        """The next commands to send, in order; empty when the thread must end."""
        batch: list[Job] = []
        while (job := self._jobs.get()) is not None:
            batch.append(job)
            if len(batch) == _BATCH or self._jobs.empty():
                return batch
        if batch:
            self._jobs.put(None)
        return batch

    def _carry_out(self, batch: list[Job]) -> list[_Answer]:
        if self._left:
            return [
                (job, DispatchError("the dispatcher was closed before this command's turn")) for job in batch
            ]
        answers: list[_Answer] = []
        confirmed = False
        refused: dict[str, str] = {}
        try:
            producer = self._connection.producer()
            confirmed = self._connection.is_amqp
            # A single command is sent without a batch, which would take another 0.3 ms.
            with producer.batch(max_size=_BATCH) if len(batch) > 1 else nullcontext():
                for job in batch:
                    answer = self._try(job.decision, refused)
                    answers.append((job, answer))
        except self._connection.errors() as exc:
            why = self._connection.refusal(exc)
            self._disconnect()
            if len(batch) > 1 and not confirmed and _concerns_one(exc):
                return [answer for job in batch for answer in self._carry_out([job])]
            if not confirmed:
                # It is unknown which of them the broker has, so all may be sent again.
                answers = []
            return [*answers, *((job, DispatchError(why)) for job in batch[len(answers) :])]
        except Exception as exc:  # noqa: BLE001 - it is raised where the commands are waited for
            return [(job, exc) for job in batch]
        return answers

    def _try(self, decision: Decision, refused: dict[str, str]) -> Exception | None:
        """Send one command of a batch. Returns an error that concerns only this command or its destination.

        ``refused``: the destinations that the broker refused earlier in the batch, with its reasons.
        """
        known = destination_or_none(self._app, decision) if refused else None
        if known is not None and known in refused:
            return DestinationError(destination=known, reason=refused[known])
        try:
            try:
                refusal = self._send(decision)
                if refusal is not None and refusal.code in {NO_ROUTE, NOT_FOUND}:
                    # The queue was deleted after it had been declared. Send once more, with a declaration.
                    refusal = self._send(decision)
            except UnroutableError as exc:
                refusal = Refusal(scope=RefusalScope.DESTINATION, code=0, reason=str(exc))
            except (struct.error, UnicodeError) as exc:
                # For example, a name is longer than the 255 bytes of its field in AMQP.
                return UndispatchableError(f"the broker's protocol cannot say it: {exc}")
            if refusal is None and not self._suspects:
                return None
            destination = destination_of(self._app, decision)
            self._suspects.discard(destination)
            if refusal is None:
                return None
        except self._connection.errors():
            raise
        except Exception as exc:  # noqa: BLE001 - it is raised where the command is waited for
            return exc
        if refusal.scope is RefusalScope.DESTINATION:
            refused[destination] = refusal.reason
            if not self._connection.is_amqp:
                self._suspects.add(destination)
            return DestinationError(destination=destination, reason=refusal.reason)
        return UndispatchableError(f"{destination}: the broker refuses it: {refusal.reason}")

    def _send(self, decision: Decision) -> Refusal | None:
        """Publish ``decision``. Returns the broker's refusal of it or of its destination, if any."""
        self._returned = None
        try:
            if isinstance(decision, Command):
                self._publish(decision)
            else:
                self._revoke(decision.id)
            error = self._returned
        except UnroutableError:
            raise
        except self._connection.errors() as exc:
            error = exc
        if error is None:
            return None
        refusal = refusal_of(error, declares=declared_by(self._app, decision))
        if refusal is None:
            raise error
        self._declared.clear()
        self._connection.forget_declarations()
        if not self._connection.is_connected():
            self._disconnect()
        return refusal

    def _note_return(self, exc: BaseException, *_: object) -> None:
        self._returned = exc

    def _publish(self, command: Command) -> None:
        app, amqp = self._app, self._app.amqp
        producer = self._connection.producer()
        options = route_of(app, command)
        queue = options.get("queue")
        goes_to = (getattr(queue, "name", queue), str(options.get("exchange")))
        if goes_to in self._declared:
            # kombu remembers declarations too, but copies the queue first, which is a fifth of the time of a
            # publish.
            options["declare"] = []
        if self._connection.is_amqp:
            # Otherwise the broker confirms a message that it throws away because its queue is gone.
            options["mandatory"] = True
        message = amqp.as_task_v2(
            command.id,
            command.run,
            (),
            command.kwargs,
            retries=command.retries,
            # Only as a header. With a time-to-live of the message, RabbitMQ would drop it without any report.
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


def _concerns_one(exc: BaseException) -> bool:
    refusal = refusal_of(exc, declares=("", ""))
    return refusal is not None and refusal.scope is RefusalScope.DESTINATION


def _answer(answers: list[_Answer]) -> None:
    for loop in {job.loop for job, _ in answers}:
        mine = [(job.done, error) for job, error in answers if job.loop is loop]
        # Nothing waits in a loop that is closed.
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
