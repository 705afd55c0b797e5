"""Operators' orders for one instance: their names, and the statuses that each applies to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from triggerstream.core.events import TYPES, Cancel, Close, Erase, Order, Release, Replay, Resend, Skip
from triggerstream.core.ids import InstanceId
from triggerstream.core.state import DECIDED, WAITING, Status

_FAILED = frozenset({Status.FAILED})
_FAILED_OR_DECIDED = _FAILED | DECIDED
_WAITING_OR_DECIDED = WAITING | DECIDED
_SET_ASIDE = frozenset({Status.DELAYED, Status.HELD})


def applicable_statuses(order: Order) -> frozenset[Status]:
    """Statuses of an instance that ``order`` applies to (R7.3, R7.4, R7.6, R7.7, R7.11).

    In these statuses the fold may still refuse an order for another reason; in all others it refuses it.
    """
    match order:
        case Skip():
            return _FAILED
        case Replay():
            return _FAILED_OR_DECIDED if order.force else _FAILED
        case Cancel():
            return _WAITING_OR_DECIDED
        case Resend():
            return DECIDED
        case Release():
            return _SET_ASIDE
        case _:
            assert_never(order)


def order_name(kind: type[Order | Close | Erase]) -> str:
    """Name of a kind of order for people and programs: the last part of its event type."""
    return TYPES[kind].rpartition(".")[2]


ORDERS: Mapping[str, type[Order]] = {
    order_name(kind): kind for kind in (Replay, Skip, Resend, Release, Cancel)
}
"""Kinds of orders by name."""
_EXAMPLE = InstanceId("task#0")


def applicable_orders(status: Status) -> list[str]:
    """Names of the orders that apply, without `force`, to an instance in ``status``."""
    return [name for name, kind in ORDERS.items() if status in applicable_statuses(kind(instance=_EXAMPLE))]
