"""The engine of a simulation: folds records in memory, and keeps states, rules and decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, KeysView, Mapping
from dataclasses import dataclass

from triggerstream.core.commands import Command
from triggerstream.core.events import Finished
from triggerstream.core.fold import needs_touch
from triggerstream.core.ids import AppId, SessionId
from triggerstream.core.state import SessionState
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules
from triggerstream.engine.checkpoint import Checkpoint, Stored, keep_retired
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.processor import Processor
from triggerstream.engine.replay.simulated_log import SimulatedLog
from triggerstream.engine.whole_sessions import add_retired
from triggerstream.wire import state as states
from triggerstream.wire.event_lines import SourceLocation
from triggerstream.wire.events import encode
from triggerstream.wire.records import Record
from triggerstream.wire.retired import RetiredKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A line whose event the engine would put into the dead letters, and why."""

    place: SourceLocation
    reason: str


class SimulatedEngine:
    """Folds records of ``log``. With ``assume_finished``, every command finishes at once: see `fold`."""

    def __init__(
        self, config: Configuration, *, app: AppId, log: SimulatedLog, assume_finished: bool
    ) -> None:
        self._log = log
        self._assume_finished = assume_finished
        self._configurations = ConfigurationCache()
        first = AppliedConfiguration(config=config, offset=-1, arrival_us=0)
        self.rules = Rules(app=app, history=(first,))
        """The app, and its configurations so far."""
        self._processor = Processor(app=app, configurations=self._configurations)
        self._stored: dict[SessionId, Stored] = {}
        self._retired: dict[RetiredKey, bytes] = {}
        self._decided: set[str] = set()

    def take_app(self, app: AppId) -> None:
        """Fold all further records as those of ``app``. No session has a state yet."""
        self.rules = Rules(app=app, history=self.rules.history)
        self._processor = Processor(app=app, configurations=self._configurations)

    def add_configuration(self, config: Configuration) -> None:
        """Note a parsed configuration, so that the record that applies it is not parsed again."""
        self._configurations.add(config)

    def start_in(self, session: SessionId, generation: int) -> None:
        """Have ``session``, of which no event was folded, begin in ``generation``."""
        known = states.encode(SessionState(generation=generation))
        self._stored[session] = Stored(state=known, due_us=None, config=-1)

    def sessions(self) -> KeysView[SessionId]:
        """Every session that has a state."""
        return self._stored.keys()

    def state(self, session: SessionId) -> SessionState | None:
        """The state of a session, with all its instances; None if none of its events was folded."""
        stored = self._load(session)
        return None if stored is None else add_retired(session, states.decode(stored), self._retired)

    def has_decided(self, command: str | None) -> bool:
        """True if a command of that id was decided."""
        return command in self._decided

    def to_touch(self) -> list[SessionId]:
        """The sessions for which the configuration in force decides something at once."""
        return [
            session
            for session, stored in self._stored.items()
            if needs_touch(self.rules, session, states.decode(stored.state))
        ]

    def fold(
        self,
        first: list[Record],
        places: Mapping[tuple[bytes | None, int], SourceLocation],
        last: SourceLocation,
    ) -> Iterator[Command | RefusedLine]:
        """Fold records, and after them, breadth first, the outcomes of the commands that finish at once.

        ``places``: the place of a record in the list of events, by key and offset; ``last`` of all others.
        """
        queue = deque([first])
        while queue:
            records = queue.popleft()
            checkpoint = self._process(records)
            for letter in checkpoint.dead_letters:
                place = places.get((letter.record.key, letter.record.offset), last)
                yield RefusedLine(place=place, reason=letter.reason)
            for decided in checkpoint.decided:
                command = decided.decision
                if isinstance(command, Command):
                    self._decided.add(command.id)
                    yield command
                    if self._assume_finished:
                        queue.append([self._finish(command)])

    def _process(self, records: list[Record]) -> Checkpoint:
        checkpoint = self._processor.process(self.rules, records, self._load)
        self._stored.update(checkpoint.states)
        keep_retired(self._retired, checkpoint.retired)
        if checkpoint.rules is not None:
            self.rules = checkpoint.rules
        return checkpoint

    def _load(self, session: SessionId) -> bytes | None:
        stored = self._stored.get(session)
        return None if stored is None else stored.state

    def _finish(self, command: Command) -> Record:
        finished = Finished(instance=command.instance, command=command.id, result={})
        return self._log.append(command.session, encode(finished))
