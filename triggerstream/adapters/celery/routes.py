"""The exchange, queue and routing key of a decision, as the Celery app routes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triggerstream.core.commands import Command, Decision

if TYPE_CHECKING:
    from celery import Celery

_ROUTING = ("queue", "exchange", "routing_key", "priority", "delivery_mode")


class UnroutableError(Exception):
    """The app's routes raise an error for a command, which a corrected app may accept."""


def route_of(app: Celery, command: Command) -> dict[str, Any]:
    """The options for publishing ``command``: its queue, or its exchange and routing key, and others."""
    # Look in the registry itself: `app.tasks` would import the tasks, which need not be importable here.
    known: Any = app._tasks.get(command.run)  # type: ignore[attr-defined]  # noqa: SLF001
    options: dict[str, Any] = {}
    if known is not None:
        options = {name: getattr(known, name) for name in _ROUTING if getattr(known, name, None) is not None}
    if command.queue is not None:
        options = {"queue": command.queue}
    if command.priority is not None:
        options["priority"] = command.priority
    try:
        found: dict[str, Any] = app.amqp.router.route(options, command.run, (), command.kwargs, known)
    except Exception as exc:
        # One cause is a queue that is not in `task_queues` when Celery may not add queues.
        raise UnroutableError(f"the Celery app does not route it: {type(exc).__name__}: {exc}") from exc
    return found


def destination_of(app: Celery, decision: Decision) -> str:
    """The queue or exchange of ``decision``, as text for people."""
    if not isinstance(decision, Command):
        return f"exchange {_control_exchange(app)}"
    try:
        exchange, queue = declared_by(app, decision)
        routing_key = route_of(app, decision).get("routing_key")
    except UnroutableError:
        return f"queue {decision.queue}" if decision.queue else f"routes of {decision.run}"
    name = f"queue {queue}" if queue else f"exchange {exchange}"
    return f"{name}, routing key {routing_key}" if routing_key else name


def _control_exchange(app: Celery) -> str:
    mailbox: Any = app.control.mailbox  # type: ignore[attr-defined] # the stubs lack it
    return str(mailbox.exchange.name)


def destination_or_none(app: Celery, decision: Decision) -> str | None:
    """The queue or exchange of a decision; None if its route cannot be found."""
    try:
        return destination_of(app, decision)
    except Exception:  # noqa: BLE001 - a route raises it, and again where the command is published
        return None


def declared_by(app: Celery, decision: Decision) -> tuple[str, str]:
    """The names of the exchange and the queue of ``decision``; empty if it has none."""
    if not isinstance(decision, Command):
        return _control_exchange(app), ""
    options = route_of(app, decision)
    queue: Any = options.get("queue")
    exchange = options.get("exchange") or getattr(queue, "exchange", None) or ""
    return str(getattr(exchange, "name", exchange)), str(getattr(queue, "name", queue) or "")
