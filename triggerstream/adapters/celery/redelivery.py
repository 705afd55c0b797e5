"""Redelivered messages: counts how often one may have killed its worker, and gives it up at a limit.

A broker marks a message that it delivers again. The mark does not say whether a task was started, nor how
many deliveries there were. A worker that receives a marked message therefore does not run it. The worker

1. publishes the message again, under the same id, with the header :data:`~delivery.STARTS` one higher,
2. waits for the broker's confirmation,
3. acknowledges the marked message.

A crash between 1 and 3 leaves both messages. The marked one is delivered again, with its old count; each copy
has its own count, and each is given up at the same limit. At the limit the worker reports `failed`, reason
`worker lost`, and acknowledges the message; after a crash in between, it reports again, which changes
nothing.

Messages whose task certainly did not start are not counted: a message whose time has not come, and one whose
task is acknowledged before it runs. A worker that stops normally hands back the messages that it has not
started, without the mark, so that restarts never fail a task that did not run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.utils.imports import symbol_by_name
from celery.utils.time import maybe_iso8601, maybe_make_aware

from triggerstream.adapters.celery import outcomes
from triggerstream.adapters.celery.delivery import STARTS, Delivery, delivery_of
from triggerstream.adapters.celery.execution import Execution
from triggerstream.adapters.celery.guards import MAX_TAKEOVERS
from triggerstream.adapters.celery.republish import Republisher
from triggerstream.core.errors import DispatchError
from triggerstream.engine.loglimit import RecurringLines

if TYPE_CHECKING:
    from celery import Celery, Task
    from celery.worker.request import Request
    from kombu.message import Message

logger = logging.getLogger(__name__)

MAX_LOST_STARTS = MAX_TAKEOVERS
"""Limit of four starts, the same as a guard's. The two counts are independent and are not added."""


class Redelivery:
    """Counts redelivered messages, and hands back messages that were not started."""

    def __init__(self, execution: Execution, republisher: Republisher) -> None:
        self._execution = execution
        self._republisher = republisher
        self._waiting: set[Request] = set()
        self._lines = RecurringLines(logger)
        self._ends = False
        self._came_late: list[Message] = []

    def add_waiting(self, request: Request) -> None:
        """Note a received request. Until it is started, it may have to be handed back."""
        self._waiting.add(request)

    def remove_waiting(self, request: Request) -> None:
        """Note that a request was started, or has ended."""
        self._waiting.discard(request)

    def forget(self) -> None:
        """Forget all waiting requests: the connection is lost, so the broker delivers them again."""
        self._waiting.clear()

    def counting(self, strategy: Any) -> Callable[..., Callable[..., object]]:  # noqa: ANN401 - a name, or a function
        """A Celery strategy (the handler of a task's messages) that counts, then calls ``strategy``."""
        make = symbol_by_name(strategy)

        def start(task: Task[Any, Any], app: Celery, consumer: Any, **options: Any) -> Callable[..., object]:  # noqa: ANN401 - a Celery Consumer
            handle: Callable[..., object] = make(task, app, consumer, **options)

            def receive(message: Message, *arguments: Any, **more: Any) -> object:  # noqa: ANN401 - Celery's own
                if self._ends and delivery_of(message.headers) is not None:
                    self._came_late.append(message)
                    return None
                delivery = _comes_again(message, task, app)
                if delivery is None:
                    return handle(message, *arguments, **more)
                self._count(task, delivery, message, consumer)
                return None

            return receive

        return start

    def _count(self, task: Task[Any, Any], delivery: Delivery, message: Message, consumer: Any) -> None:  # noqa: ANN401 - a Celery Consumer
        """Publish a redelivered message again, or give it up, and acknowledge it."""
        starts = delivery.starts + 1
        noted = {"command": delivery.command, "starts": starts}
        if starts > MAX_LOST_STARTS:
            self._lines.write(
                "A command ended each process that ran it: given up",
                key=delivery.task,
                level=logging.ERROR,
                extra=noted,
            )
            why = outcomes.processes_ended(starts)
            self._execution.conclude(task, delivery, outcomes.worker_lost(delivery, why))
        else:
            self._lines.write("A message was redelivered: published again with a higher count", extra=noted)
            queue = _queue_of(message, _queues(consumer))
            try:
                self._republisher.send(message, queue=queue, headers={STARTS: starts})
            except DispatchError:
                self._lines.write(
                    "A redelivered message could not be published again: requeued",
                    level=logging.ERROR,
                    extra=noted,
                    exc_info=True,
                )
                message.reject_log_error(logger, consumer.connection_errors, requeue=True)
                return
        # At once: Celery would acknowledge in the next turn of its loop. The pool `solo` runs the new message
        # before that, so each death would leave one more message.
        message.ack_log_error(logger, consumer.connection_errors)

    def hand_back(self, consumer: Any) -> None:  # noqa: ANN401 - a Celery Consumer
        """Publish received messages that were not started again, unchanged, and acknowledge them.

        Called when the worker stops normally: otherwise the broker marks them when the connection closes.
        """
        queues = _queues(consumer)
        self._ends = True
        # First stop reading: otherwise this worker would receive the messages that it hands back.
        _finish_reading(consumer.task_consumer.channel)
        consumer.task_consumer.cancel()
        for message in (*self._not_begun(), *self._came_late):
            try:
                self._republisher.send(message, queue=_queue_of(message, queues), headers={})
            except DispatchError:
                logger.exception(
                    "Messages that were not started could not be handed back: the broker delivers them again"
                )
                return
            message.ack_log_error(logger, consumer.connection_errors)

    def _not_begun(self) -> list[Message]:
        """The messages of requests that are not started, and will not be from now on."""
        found = []
        for request in list(self._waiting):
            in_the_pool = getattr(request, "_apply_result", None) is not None
            if not in_the_pool and delivery_of(request.request_dict) is not None:
                # Celery's own flags: do not start the request, and do not acknowledge it again.
                vars(request)["_already_revoked"] = request.acknowledged = True
                found.append(request.message)
        return found


def hand_back_step(redelivery: Redelivery) -> type[bootsteps.StartStopStep]:
    """A step of Celery's consumer that hands back messages that were not started when the worker stops."""

    class HandBack(bootsteps.StartStopStep):
        """Step that Celery stops before the consumer of tasks, while the connection is open."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def stop(self, consumer: Any) -> None:  # noqa: ANN401 - a Celery Consumer
            # Also called when the connection was lost: then nothing can be acknowledged.
            ends = consumer.blueprint.state != bootsteps.RUN  # type: ignore[attr-defined]  # missing in the stubs
            if ends and consumer.connection is not None and consumer.task_consumer is not None:
                redelivery.hand_back(consumer)
            else:
                redelivery.forget()

    return HandBack


def _comes_again(message: Message, task: Task[Any, Any], app: Celery) -> Delivery | None:
    """The command of a message that may have been started before; None if it was not, or has no command."""
    if (
        not (message.delivery_info or {}).get("redelivered")
        or not task.acks_late
        or _is_for_later(message, app)
    ):
        return None
    return delivery_of(message.headers)


def _is_for_later(message: Message, app: Celery) -> bool:
    """True if the message's time has not come, so that no worker can have started it."""
    eta = (message.headers or {}).get("eta")
    if eta is None:
        return False
    try:
        due = maybe_iso8601(eta)
        return due is not None and maybe_make_aware(due, app.timezone).timestamp() > time.time()
    except (AttributeError, TypeError, ValueError, OverflowError):
        return False  # not a valid time: Celery refuses the message when it receives the copy


def _finish_reading(channel: Any) -> None:  # noqa: ANN401 - a kombu Channel
    """Read the answer to a pending ``BRPOP`` if ``channel`` is a Redis channel.

    The server answers within a second. kombu would return a message that arrives after the consumer was
    cancelled to the queue with the mark for redelivery, although no worker has seen it.
    """
    if getattr(channel, "_in_poll", None):
        with suppress(Empty):
            channel._brpop_read()  # noqa: SLF001 - kombu does the same when it closes a channel


def _queues(consumer: Any) -> dict[str, str]:  # noqa: ANN401 - a Celery Consumer
    """The worker's queues, by AMQP consumer tag."""
    tags: dict[str, str] = getattr(consumer.task_consumer, "_active_tags", {})
    return {tag: queue for queue, tag in tags.items()}


def _queue_of(message: Message, queues: dict[str, str]) -> str | None:
    """The queue that ``message`` came from; None with Redis, which has no consumer tags."""
    return queues.get((message.delivery_info or {}).get("consumer_tag", ""))
