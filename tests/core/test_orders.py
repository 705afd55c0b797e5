"""Names of operators' orders, and the statuses that each applies to."""

from __future__ import annotations

import pytest

from triggerstream.core.events import Cancel, Close, Erase, Order, Release, Replay, Resend, Skip
from triggerstream.core.ids import InstanceId
from triggerstream.core.orders import ORDERS, applicable_orders, applicable_statuses, order_name
from triggerstream.core.state import Status

T0 = InstanceId("t#0")
NAMES: dict[type[Order | Close | Erase], str] = {
    Replay: "replay",
    Skip: "skip",
    Resend: "resend",
    Release: "release",
    Cancel: "cancel",
    Close: "close",
    Erase: "erase",
}


@pytest.mark.parametrize("kind", NAMES)
def test_name_of_an_order_is_the_last_part_of_its_event_type(kind: type[Order | Close | Erase]) -> None:
    assert order_name(kind) == NAMES[kind]


def test_orders_are_found_by_name() -> None:
    assert dict(ORDERS) == {
        "replay": Replay,
        "skip": Skip,
        "resend": Resend,
        "release": Release,
        "cancel": Cancel,
    }


@pytest.mark.parametrize(
    ("order", "statuses"),
    [
        (Skip(instance=T0), {"failed"}),
        (Replay(instance=T0), {"failed"}),
        (Replay(instance=T0, force=True), {"failed", "scheduled", "running"}),
        (Cancel(instance=T0), {"unstarted", "delayed", "held", "scheduled", "running"}),
        (Resend(instance=T0), {"scheduled", "running"}),
        (Release(instance=T0), {"delayed", "held"}),
    ],
)
def test_order_applies_in_some_statuses(order: Order, statuses: set[str]) -> None:
    assert applicable_statuses(order) == statuses


def test_orders_without_force_are_listed_by_status() -> None:
    assert applicable_orders(Status.FAILED) == ["replay", "skip"]
    assert applicable_orders(Status.RUNNING) == ["resend", "cancel"]
    assert applicable_orders(Status.HELD) == ["release", "cancel"]
    assert applicable_orders(Status.FINISHED) == []
