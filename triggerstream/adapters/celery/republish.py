"""Publishes a message again; the broker confirms the copy before the worker acknowledges the original."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from triggerstream.adapters.celery.connection import ConfirmedConnection
from triggerstream.core.errors import DispatchError

if TYPE_CHECKING:
    from celery import Celery
    from celery.canvas import Signature
    from kombu.message import Message

_TIMEOUT_S = 10.0
"""The same time as a dispatcher's: a broker that takes longer to confirm counts as unavailable."""
_IDLE_S = 10.0
"""A connection that was idle for longer is replaced: it has no heartbeat, so it may be broken."""
_KEPT_PROPERTIES = ("correlation_id", "reply_to", "message_id", "timestamp", "type", "app_id")
_NOT_KEPT_HEADERS = frozenset({"redelivered", "compression"})
"""Headers that are not copied: Redis' mark for redelivery, and compression, which kombu has already
undone."""


class Republisher:
    """Sends messages to the queue that they came from; each process has its own connection."""

    def __init__(self, app: Celery) -> None:
        self._connection: Final = ConfirmedConnection(app, timeout_s=_TIMEOUT_S)
        self._used_at = 0.0
        self._lock = threading.Lock()
        self._of_the_parent: list[object] = []
        os.register_at_fork(after_in_child=self._forget)

    def send(self, message: Message, *, queue: str | None, headers: Mapping[str, object]) -> None:
        """Send ``message`` again unchanged, except that ``headers`` override its own.

        It goes to ``queue``; if that is None, to its original exchange. The broker has it on return.

        Raises:
            DispatchError: not confirmed. The broker may have the message nevertheless.
        """
        properties, came_from = message.properties or {}, message.delivery_info or {}
        kept: dict[str, Any] = {
            name: properties[name] for name in _KEPT_PROPERTIES if properties.get(name) is not None
        }
        if properties.get("expiration") is not None:
            kept["expiration"] = float(properties["expiration"]) / 1_000
        with self._lock:
            try:
                self._producer().publish(
                    message.body,
                    exchange="" if queue is not None else came_from.get("exchange") or "",
                    routing_key=queue if queue is not None else came_from.get("routing_key"),
                    content_type=message.content_type,
                    content_encoding=message.content_encoding,
                    headers={
                        **{n: v for n, v in (message.headers or {}).items() if n not in _NOT_KEPT_HEADERS},
                        **headers,
                    },
                    priority=properties.get("priority") or 0,
                    delivery_mode=properties.get("delivery_mode"),
                    **self._options(),
                    **kept,
                )
            except self._connection.errors() as exc:
                self._gone(exc)

    def apply(self, signature: Signature[Any]) -> None:
        """Send the message of ``signature``. The broker has it on return.

        Raises:
            DispatchError: not confirmed. The broker may have the message nevertheless.
        """
        with self._lock:
            try:
                signature.apply_async(add_to_parent=False, producer=self._producer(), **self._options())
            except self._connection.errors() as exc:
                self._gone(exc)

    def _producer(self) -> Any:  # noqa: ANN401 - a kombu Producer
        now = time.monotonic()
        if now - self._used_at > _IDLE_S:
            self._connection.close()
        self._used_at = now
        return self._connection.producer()

    def _options(self) -> dict[str, Any]:
        options = {"retry": False, "timeout": _TIMEOUT_S, "confirm_timeout": _TIMEOUT_S}
        self._connection.producer()
        if self._connection.is_amqp:
            # Otherwise the broker confirms a message that it throws away because its queue is gone.
            options["mandatory"] = True
        return options

    def _gone(self, exc: BaseException) -> None:
        why = self._connection.refusal(exc)
        self._connection.close()
        raise DispatchError(why) from exc

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._of_the_parent.append(self._connection.forget())
