"""What orders have in common: who gives them and why, and how long to wait."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def giver_options(command: _F) -> _F:
    """The options of whatever appends an order, in this order: ``--reason``, ``--by``, ``--wait``."""
    for option in (
        click.option(
            "--wait",
            "wait_s",
            default=10.0,
            show_default=True,
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="How long to wait for the engine.",
        ),
        click.option("--by", default=_user, show_default="the user", help="Who gives the order."),
        click.option("--reason", help="Why; kept with the order."),
    ):
        command = option(command)
    return command


def _user() -> str:
    """Who runs this; a container may have no name for its user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
