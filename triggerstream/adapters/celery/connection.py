"""A connection to Celery's broker on which a publish returns once the broker has confirmed the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from amqp.exceptions import MessageNacked
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerError

from triggerstream.core.ids import JsonObject

if TYPE_CHECKING:
    from celery import Celery

_REDIS = frozenset({"redis", "rediss", "sentinel"})


class ConfirmedConnection:
    """Connection that opens at the first use, and again after :meth:`close`. For one thread at a time.

    Args:
        on_return: called during a publish for a mandatory message that no queue takes, with the error, the
            exchange, the routing key and the message. The broker confirms such a message nevertheless.
            None: the publish raises the error.
    """

    def __init__(
        self, app: Celery, *, timeout_s: float, on_return: Callable[..., None] | None = None
    ) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._on_return = on_return
        self._connection: Any = None
        self._producer: Any = None
        self.is_amqp = False
        """True if the open connection speaks AMQP, where the broker confirms each message before the next."""

    def producer(self) -> Any:  # noqa: ANN401 - a kombu Producer
        """A producer on the open connection.

        Raises:
            BaseException: one of :meth:`errors`, if no broker answers.
        """
        if self._producer is None:
            self._connection = self._app.connection_for_write(
                connect_timeout=self._timeout_s, transport_options=self._transport_options()
            )
            self._connection.ensure_connection(max_retries=1, timeout=self._timeout_s)
            self.is_amqp = self._connection.transport.driver_type == "amqp"
            self._producer = self._app.amqp.Producer(
                self._connection, auto_declare=False, on_return=self._on_return if self.is_amqp else None
            )
        return self._producer

    def connection(self) -> Any:  # noqa: ANN401 - a kombu Connection
        """The open connection; it connects first if it is closed."""
        self.producer()
        return self._connection

    def is_connected(self) -> bool:
        """True if the connection is open.

        An AMQP broker closes it after some errors, and not after others.
        """
        return self._connection is not None and bool(self._connection.connected)

    def forget_declarations(self) -> None:
        """Declare queues and exchanges again at the next publish, because they may have been deleted."""
        if self._connection is not None:
            self._connection.declared_entities.clear()

    def errors(self) -> tuple[type[BaseException], ...]:
        """Exceptions after which the broker may or may not have the message; then call :meth:`close`."""
        common = (OSError, KombuError, BrokerError, MessageNacked)
        if self._connection is None:
            return common
        return (*common, *self._connection.connection_errors, *self._connection.channel_errors)

    def refusal(self, exc: BaseException) -> str:
        """The words for ``exc``, one of :meth:`errors`: they name the broker, without its password.

        Call it before :meth:`close`.
        """
        place = "" if self._connection is None else f" {self._connection.as_uri()}"
        return f"the Celery broker{place} did not accept the message: {type(exc).__name__}: {exc}"

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()

    def forget(self) -> object:
        """Drop the connection without closing it: after a fork its socket belongs to the parent.

        Returns an object that the caller must keep: a connection that is garbage-collected shuts its socket
        down, also for the parent.
        """
        kept = (self._connection, self._producer)
        self._connection = self._producer = None
        return kept

    def _transport_options(self) -> JsonObject:
        """The app's transport options, with confirmation and time limits added."""
        options: JsonObject = {
            "confirm_publish": True,
            "read_timeout": self._timeout_s,
            "write_timeout": self._timeout_s,
        }
        if self._app.connection_for_write().transport_cls in _REDIS:
            options = {"socket_timeout": self._timeout_s, "socket_connect_timeout": self._timeout_s}
        return {**options, **(self._app.conf.broker_transport_options or {})}
