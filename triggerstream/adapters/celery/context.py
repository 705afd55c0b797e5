"""The context of a running task: :func:`current` returns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from celery.exceptions import Ignore, MaxRetriesExceededError

from triggerstream.adapters.celery.delivery import Delivery
from triggerstream.adapters.celery.outcomes import fired
from triggerstream.adapters.celery.plain_values import NotReportableError, plain_object
from triggerstream.core.commands import Cause
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import CommandId, ConfigHash, InstanceId, JsonObject, SessionId, TaskName
from triggerstream.wire.events import check_trigger_name
from triggerstream.wire.values import DATA_DEPTH

if TYPE_CHECKING:
    from sqlalchemy import Connection

LONGEST_RETRY_S = 100 * 365 * 86_400


class SkipRequested(Ignore):
    """Ends the task's body after :meth:`CommandContext.skip`.

    An ``Ignore``: Celery stores no result for it.
    """

    def __init__(self, metadata: object) -> None:
        super().__init__("skipped")
        self.metadata = metadata


class RetryRequested(Ignore):
    """Ends the task's body after :meth:`CommandContext.retry`."""

    def __init__(self, *, after_s: float, kwargs: object) -> None:
        super().__init__(f"to be run again after {after_s:g} s")
        self.after_s = after_s
        self.kwargs = kwargs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CommandContext:
    """The command that is running here.

    ``token`` is the guard's fencing token, None without a guard: hand it, or ``command``, to a service that
    can tell a repeat from a new request.
    """

    session: SessionId
    task: TaskName
    instance: InstanceId
    command: CommandId
    attempt: int
    retries: int
    config: ConfigHash
    causes: tuple[Cause, ...]
    traceparent: str | None
    trigger_kwargs: Mapping[str, JsonObject]
    token: str | None
    _delivery: Delivery
    _max_retries: int | None
    _append: Callable[[SessionId, bytes], None]
    _connect: Callable[[], Connection]
    _fires: Counter[str] = field(default_factory=Counter)

    @property
    def connection(self) -> Connection:
        """The SQL guard's connection. Its one transaction holds the effect and the record that it is done.

        The transaction begins with the first use. It is committed when the task has returned or skipped; an
        error or a retry rolls it back. Committing it earlier is refused.

        Raises:
            UsageError: this task has no SQL guard.
        """
        return self._connect()

    def skip(self, metadata: Mapping[str, Any] | None = None) -> NoReturn:
        """End the task here: it had nothing to do. The instance becomes `skipped`, nothing cascades."""
        raise SkipRequested(metadata)

    def retry(
        self,
        *,
        after_s: float = 0.0,
        kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        max_retries: int | None = None,
    ) -> NoReturn:
        """End the task here, to be run again as a new instance, ``after_s`` later.

        ``kwargs`` ({trigger: arguments}) replace the task's own. ``max_retries`` replaces the task's own
        ``max_retries`` (Celery's default is 3, None means no limit). A retry beyond this limit fails the
        instance.
        """
        if not 0 <= after_s <= LONGEST_RETRY_S:
            raise UsageError(f"after_s: must be from 0 to {LONGEST_RETRY_S:,} seconds, is {after_s!r}")
        limit = self._max_retries if max_retries is None else max_retries
        if limit is not None and self.retries >= limit:
            raise MaxRetriesExceededError(
                f"{self.instance} was run again {self.retries} times; the limit is {limit}"
            )
        raise RetryRequested(after_s=after_s, kwargs=kwargs)

    def fire(self, trigger: str, data: Mapping[str, Any] | None = None) -> None:
        """Fire ``trigger`` in this session. It is durable when this returns.

        The event's id is derived from the command and the number of the fire, so a command that is run again
        does not fire twice.

        Raises:
            UsageError: this can be no trigger; the message says why.
            LogError: not known to be durable.
        """
        if not isinstance(trigger, str):
            raise UsageError(f"cannot fire {trigger!r:.80}: the name of a trigger is a string")
        try:
            name = check_trigger_name(str.__str__(trigger))
            fields = {} if data is None else plain_object(data, depth=DATA_DEPTH)
            value = fired(self._delivery, name, fields, number=self._fires[trigger])
        except (DecodeError, NotReportableError) as exc:
            raise UsageError(f"cannot fire {trigger!r:.80}: {exc}") from exc
        self._append(self.session, value)
        self._fires[trigger] += 1


_running: ContextVar[CommandContext | None] = ContextVar("triggerstream_command", default=None)


def current() -> CommandContext | None:
    """The command that is running here; None outside of tasks, and in one triggerstream did not start."""
    return _running.get()


def running() -> ContextVar[CommandContext | None]:
    """The variable in which :mod:`triggerstream.adapters.celery.execution` puts the command that runs."""
    return _running
