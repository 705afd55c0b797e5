"""Answers of a broker that concern one queue, one exchange or one message, and not the connection.

The reply code and the method that failed decide, never the text. RabbitMQ closes the channel for most of
them, and the connection for a few: for an unknown type of exchange, for example. Redis and Valkey begin an
error with its code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from amqp.exceptions import AMQPError, MessageNacked
from kombu.exceptions import BatchPublishError  # type: ignore[attr-defined] # the stubs lack it

CONTENT_TOO_LARGE: Final = 311
NO_ROUTE: Final = 312
NO_CONSUMERS: Final = 313
ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406

_OF_A_DESTINATION = frozenset(
    {NO_ROUTE, NO_CONSUMERS, ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED}
)
_EXCHANGE, _QUEUE, _BASIC = 40, 50, 60
"""Classes of methods. A refused login, for example, has none of them."""
_DECLARE = frozenset({(_EXCHANGE, 10), (_QUEUE, 10)})
_PUBLISH = (_BASIC, 40)
_OF_A_KEY = frozenset({"WRONGTYPE", "NOPERM"})
"""Codes of Redis: the key is no list; the user has no access to it."""
_REDIS_CODE = re.compile(
    r"(?:Command # \d+ \(.*?\) of pipeline caused error: )?"
    r"(?P<code>[A-Z]+) ",
    re.DOTALL,
)
"""The first word of an error is its code; the protocol has no other place for it. redis-py puts the command
of a pipeline before it."""
_RESERVED = "amq."
"""Only the broker itself may create queues and exchanges with such names (AMQP 0-9-1, section 3.1.3)."""


class RefusalScope(Enum):
    """The commands that a refusal concerns."""

    DESTINATION = "destination"
    """All commands for this destination, until an operator mends it or the queue has room."""
    NAME = "name"
    """All commands for this destination, permanently."""
    MESSAGE = "message"
    """This command, permanently: the message is longer than the broker takes, for example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A broker's answer; ``code`` is AMQP's, 0 for ``basic.nack`` and for Redis."""

    scope: RefusalScope
    code: int
    reason: str


def refusal_of(exc: BaseException, *, declares: tuple[str, str]) -> Refusal | None:
    """The refusal that ``exc`` is; None: it concerns the connection, or is no answer.

    ``declares``: names of the exchange and of the queue that the publish declares first.
    """
    if isinstance(exc, MessageNacked):
        return Refusal(
            scope=RefusalScope.DESTINATION, code=0, reason="the queue takes no more messages (basic.nack)"
        )
    if not isinstance(exc, AMQPError):
        return _redis_refusal(exc)
    if not exc.method_sig:
        return None
    code, method = exc.reply_code or 0, exc.method_sig
    reason = f"{exc.reply_text or type(exc).__name__} ({code})"
    if code == CONTENT_TOO_LARGE or (code == PRECONDITION_FAILED and method == _PUBLISH):
        return Refusal(scope=RefusalScope.MESSAGE, code=code, reason=reason)
    if code == ACCESS_REFUSED and method in _DECLARE:
        exchange, queue = declares
        if (queue if method[0] == _QUEUE else exchange).startswith(_RESERVED):
            return Refusal(scope=RefusalScope.NAME, code=code, reason=reason)
    if method[0] in {_EXCHANGE, _QUEUE} or (method[0] == _BASIC and code in _OF_A_DESTINATION):
        return Refusal(scope=RefusalScope.DESTINATION, code=code, reason=reason)
    return None


def _redis_refusal(exc: BaseException) -> Refusal | None:
    """The refusal of a key by Redis; of a batch, ``exc`` does not say which key it was."""
    try:
        from redis.exceptions import ResponseError  # noqa: PLC0415 - it may not be installed
    except ImportError:
        return None  # no broker of this process is a Redis
    cause = exc.__cause__ if isinstance(exc, BatchPublishError) else exc
    if not isinstance(cause, ResponseError):
        return None
    # redis-py has the code as a value for errors with a class of their own, else as the server sent it.
    found = _REDIS_CODE.match(str(cause))
    code = getattr(cause, "status_code", None) or (found and found["code"])
    if code not in _OF_A_KEY:
        return None
    return Refusal(scope=RefusalScope.DESTINATION, code=0, reason=f"{cause} ({code})")
