"""Options that all orders share: who gives them and why, and how long to wait."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from triggerstream.cli.printing import compact
from triggerstream.core.ids import JsonObject
from triggerstream.core.orders import order_name
from triggerstream.present.words import event_number

if TYPE_CHECKING:
    from triggerstream.engine.operations.orders import Answer

_F = TypeVar("_F", bound=Callable[..., Any])

wait_option = click.option(
    "--wait",
    "wait_s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait for the engine.",
)


def giver_options(command: _F) -> _F:
    """The options of a command that appends an order: ``--reason``, ``--by``, ``--wait``."""
    for option in (
        wait_option,
        click.option(
            "--by", default=_user, show_default="the user", help="Name of the person who orders it."
        ),
        click.option("--reason", help="The reason; kept with the order."),
    ):
        command = option(command)
    return command


def describe_unfolded_record(what: str, offset: int) -> str:
    """The message about ``what`` that was appended and that no engine has folded in time."""
    return (
        f"{what} is stored as {event_number(offset)}, but no engine has processed it yet: "
        "start one (triggerstream dev, or a worker)"
    )


def answer_fields(answer: Answer) -> JsonObject:
    """The outcome of an order, for programs; ``applied`` null: it is not known."""
    more: JsonObject = {"reason": answer.reason, "status": answer.status, "clone": answer.clone}
    return {
        "session": answer.to.session,
        **compact({"instance": answer.to.instance}),
        "order": order_name(type(answer.to.order)),
        "offset": answer.position.offset,
        "applied": answer.applied,
        **compact(more),
    }


def not_known(answer: Answer) -> str:
    """Text for an order whose outcome is not known."""
    if answer.reason is not None:
        return f"the order is stored as {event_number(answer.position.offset)}; {answer.reason}"
    return f"{describe_unfolded_record('the order', answer.position.offset)}, and it will be carried out"


def _user() -> str:
    """The name of the user who runs this; a container may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
