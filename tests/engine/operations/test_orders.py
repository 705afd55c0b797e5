"""Orders say the session, the instance and the attempt that they were given for."""

from __future__ import annotations

from triggerstream.core.events import Cancel, Close, Erase, Resend
from triggerstream.core.ids import InstanceId, JsonObject, SessionId, TaskName
from triggerstream.core.state import Instance, SessionState, Status, TaskRecord
from triggerstream.engine.operations.orders import address
from triggerstream.engine.queries.inspector import as_seen

S = SessionId("s")
T0, T1 = InstanceId("t#0"), InstanceId("t#1")
STATE = SessionState(
    generation=3,
    closed=True,
    tasks={
        TaskName("t"): TaskRecord(
            next=1,
            open={0: Instance(number=0, status=Status.RUNNING, created_us=0, changed_us=0, attempt=2)},
        )
    },
)
SHOWN: JsonObject = {
    "generation": 3,
    "closed": True,
    "tasks": [{"task": "t", "instances": [{"instance": "t#0", "attempt": 2}, {"instance": "t#1"}]}],
}


def test_an_order_is_for_the_session_as_it_is_now() -> None:
    assert address(S, Close(), STATE).order == Close(generation=3)
    assert address(S, Erase(), STATE).order == Erase(generation=3)
    # The instances of a closed session are of the generation before.
    assert address(S, Cancel(instance=T0), STATE).order == Cancel(instance=T0, generation=2)
    assert address(S, Resend(instance=T0), STATE).order == Resend(instance=T0, generation=2, attempt=2)
    assert address(S, Resend(instance=T1), STATE).order == Resend(instance=T1, generation=2, attempt=0)


def test_an_order_for_a_session_that_is_not_known_is_for_its_first_generation() -> None:
    assert address(S, Close(), None).order == Close(generation=0)
    assert address(S, Resend(instance=T0), None).order == Resend(instance=T0, generation=0, attempt=0)
    assert as_seen(Resend(instance=T0), None) == Resend(instance=T0, generation=0, attempt=0)
    assert as_seen(Cancel(instance=T0), None) == Cancel(instance=T0, generation=0)


def test_a_page_s_order_is_for_what_the_page_shows() -> None:
    assert as_seen(Cancel(instance=T0), SHOWN) == Cancel(instance=T0, generation=2)
    assert as_seen(Resend(instance=T0), SHOWN) == Resend(instance=T0, generation=2, attempt=2)
    assert as_seen(Resend(instance=T1), SHOWN) == Resend(instance=T1, generation=2, attempt=0)
