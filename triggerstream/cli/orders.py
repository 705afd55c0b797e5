"""What orders have in common: who gives them and why, and how long to wait."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

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
    """The options of whatever appends an order, in this order: ``--reason``, ``--by``, ``--wait``."""
    for option in (
        wait_option,
        click.option("--by", default=_user, show_default="the user", help="Who gives the order."),
        click.option("--reason", help="Why; kept with the order."),
    ):
        command = option(command)
    return command


def unfolded(what: str, offset: int) -> str:
    """What is said of ``what`` that was appended, where no engine has come to it in time."""
    return (
        f"{what} is in the log at offset {offset}, but no engine has folded it yet: "
        "start one (triggerstream dev, or a worker)"
    )


def _user() -> str:
    """Who runs this; a container may have no name for its user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
