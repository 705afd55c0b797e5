"""Messages that a broker delivers again: how often one may have killed its worker, and when to give it up.

A broker marks a message that it delivers again. It does not say whether the first delivery was begun, nor how
many there were. So the worker that receives a marked message does not run it. It

1. publishes it anew, under the same id, with one more in the header :data:`~delivery.STARTS`,
2. has the broker confirm that,
3. acknowledges the marked one.

A crash between 1 and 3 leaves both. The marked one comes again, with the count that it had; each copy carries
a count of its own, and each is given up at the same limit. At the limit the worker reports `failed`, reason
`worker lost`, and acknowledges; a crash in between has it reported again, which changes nothing.

What was certainly not begun is not counted: a message whose time has not come, and one whose task is
acknowledged before it runs. A worker that ends in good order hands back what it has not begun, unmarked, so
that no number of restarts makes a task fail that never ran.
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

if TYPE_CHECKING:
    from celery import Celery, Task
    from celery.worker.request import Request
    from kombu.message import Message

logger = logging.getLogger(__name__)

MAX_LOST_STARTS = MAX_TAKEOVERS
"""The same bound as that of a guard, which counts beside it, not on top of it: four starts."""


class Redelivery:
    """Counts messages that come again, and hands back what was not begun."""

    def __init__(self, execution: Execution, republisher: Republisher) -> None:
        self._execution = execution
        self._republisher = republisher
        self._waiting: set[Request] = set()
        self._ends = False
        self._came_late: list[Message] = []

    def waits(self, request: Request) -> None:
        """Note a request that was received: until it is begun, it may have to be handed back."""
        self._waiting.add(request)

    def waits_no_more(self, request: Request) -> None:
        """Note that a request was begun, or is over."""
        self._waiting.discard(request)

    def forget(self) -> None:
        """Forget all that waits: its connection is lost, so the broker delivers it again."""
        self._waiting.clear()

    def counting(self, strategy: Any) -> Callable[..., Callable[..., object]]:  # noqa: ANN401 - a name, or a function
        """A Celery strategy (how a worker takes a task's messages) that counts, else does as ``strategy``."""
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
        """Send a message that came again anew, or give it up, and acknowledge it."""
        starts = delivery.starts + 1
        noted = {"command": delivery.command, "starts": starts}
        if starts > MAX_LOST_STARTS:
            logger.error("A command ended each process that ran it: given up", extra=noted)
            why = outcomes.processes_ended(starts)
            self._execution.conclude(task, delivery, outcomes.worker_lost(delivery, why))
        else:
            logger.warning("A message came again: sent anew, to be counted", extra=noted)
            queue = _queue_of(message, _queues(consumer))
            try:
                self._republisher.send(message, queue=queue, headers={STARTS: starts})
            except DispatchError:
                logger.exception("A message that came again was not sent anew: requeued", extra=noted)
                message.reject_log_error(logger, consumer.connection_errors, requeue=True)
                return
        # At once: Celery's own way waits for the next turn of its loop, in which the pool `solo` runs what
        # was just sent anew, so that each death would leave one message more.
        message.ack_log_error(logger, consumer.connection_errors)

    def hand_back(self, consumer: Any) -> None:  # noqa: ANN401 - a Celery Consumer
        """Publish anew what was received and not begun, as it is, and acknowledge it.

        Called when the worker ends in good order: the broker would mark it when the connection closes.
        """
        queues = _queues(consumer)
        self._ends = True
        # First end all reading: what is handed back would come back here.
        _finish_reading(consumer.task_consumer.channel)
        consumer.task_consumer.cancel()
        for message in (*self._not_begun(), *self._came_late):
            try:
                self._republisher.send(message, queue=_queue_of(message, queues), headers={})
            except DispatchError:
                logger.exception("What was not begun could not be handed back: the broker delivers it again")
                return
            message.ack_log_error(logger, consumer.connection_errors)

    def _not_begun(self) -> list[Message]:
        """The messages of requests that are not begun by now, and will not be."""
        found = []
        for request in list(self._waiting):
            in_the_pool = getattr(request, "_apply_result", None) is not None
            if not in_the_pool and delivery_of(request.request_dict) is not None:
                # Celery's own marks: not to be begun any more, and nothing more to acknowledge.
                vars(request)["_already_revoked"] = request.acknowledged = True
                found.append(request.message)
        return found


def hand_back_step(redelivery: Redelivery) -> type[bootsteps.StartStopStep]:
    """A step of Celery's consumer that hands back what was not begun, once the worker is told to end."""

    class HandBack(bootsteps.StartStopStep):
        """Stopped before the consumer of tasks, while the connection is open."""

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
    """The command of a message that may have been begun before; None where it was not, or is not ours."""
    if (
        not (message.delivery_info or {}).get("redelivered")
        or not task.acks_late
        or _is_for_later(message, app)
    ):
        return None
    return delivery_of(message.headers)


def _is_for_later(message: Message, app: Celery) -> bool:
    """True where the message's time has not come, so that no worker can have begun it."""
    eta = (message.headers or {}).get("eta")
    if eta is None:
        return False
    try:
        due = maybe_iso8601(eta)
        return due is not None and maybe_make_aware(due, app.timezone).timestamp() > time.time()
    except (AttributeError, TypeError, ValueError, OverflowError):
        return False  # no time at all: once it is sent anew, Celery refuses it


def _finish_reading(channel: Any) -> None:  # noqa: ANN401 - a kombu Channel
    """Take the answer to the request for a message that is under way, if this is a channel of Redis.

    The server answers within a second. kombu would give a message that comes after the consumer was cancelled
    back to the queue as delivered before, although nobody has seen it.
    """
    if getattr(channel, "_in_poll", None):
        with suppress(Empty):
            channel._brpop_read()  # noqa: SLF001 - as kombu itself does where it closes a channel


def _queues(consumer: Any) -> dict[str, str]:  # noqa: ANN401 - a Celery Consumer
    """The queues that the worker consumes, by the tags that AMQP gives to consumers."""
    tags: dict[str, str] = getattr(consumer.task_consumer, "_active_tags", {})
    return {tag: queue for queue, tag in tags.items()}


def _queue_of(message: Message, queues: dict[str, str]) -> str | None:
    """The queue that ``message`` came from. With Redis it does not say: that has no tags."""
    return queues.get((message.delivery_info or {}).get("consumer_tag", ""))
