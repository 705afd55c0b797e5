"""Entries of retired instances as an engine keeps them, for tests that fold with ``step`` alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from triggerstream.core.ids import SessionId, TaskName
from triggerstream.core.number_ranges import each_of
from triggerstream.core.results import Folded
from triggerstream.core.retired import with_retired
from triggerstream.core.state import SessionState
from triggerstream.wire import retired as wire


@dataclass(slots=True)
class Entries:
    """The entries of every session, as bytes, by session, task and number."""

    stored: dict[SessionId, dict[tuple[TaskName, int], bytes]] = field(default_factory=dict)

    def take(self, session: SessionId, folded: Folded) -> None:
        """Write and delete what ``folded`` says. The entries are then those that the state names."""
        own = self.stored.setdefault(session, {})
        for key in folded.dropped:
            del own[key]
        for one in folded.retired:
            key = (one.task, one.instance.number)
            assert key not in own, "an entry is written once"
            own[key] = wire.encode(one)
        named = {(name, n) for name, record in folded.state.tasks.items() for n in each_of(record.retired)}
        assert own.keys() == named

    def whole(self, session: SessionId, state: SessionState) -> SessionState:
        """``state`` with the instances that have left it."""
        own = self.stored.get(session, {})
        return with_retired(state, [wire.decode(task, entry) for (task, _), entry in own.items()])
