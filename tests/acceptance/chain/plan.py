"""The triggers of the chain's producers and the expected effects, derived from a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from triggerstream.core.ids import AppId, CommandId, SessionId, TaskName, command_id

RUN = "chain.take_effect"
TASKS = f"""{{
  "t_effect": {{"after": ["a", "b", "c", "d"], "run": "{RUN}"}},
  // Needs the outcome of the other to come back.
  "t_then": {{"after": ["t_effect", "e"], "run": "{RUN}"}},
  // Uses what arrives anyway, and is never complete.
  "t_never": {{"after": ["a", "z"], "run": "{RUN}"}},
}}"""
EVENTS = 10
"""Each session has so many."""
_INCOMPLETE_EVERY = 4
_CONTINUED_EVERY = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``sessions`` sessions, named after the scenario; ``seed`` chooses the order of their events."""

    name: str
    sessions: int
    seed: int = 1

    def session(self, number: int) -> str:
        """The name of one of its sessions."""
        return f"{self.name}-{number}"

    def events(self) -> list[tuple[str, str]]:
        """(session, trigger), ten for each session, in random order within a fifth of the sessions."""
        chance = Random(self.seed)
        found = [
            (number + chance.uniform(0, self.sessions / 5), self.session(number), trigger)
            for number in range(self.sessions)
            for trigger in (*"abc", "dx"[_lacks(number)], "ye"[_goes_on(number)], *"uvwst")
        ]
        return [(session, trigger) for _, session, trigger in sorted(found)]

    def share(self, producer: int, *, of: int) -> list[tuple[str, str]]:
        """The triggers of one of the producers."""
        return self.events()[producer::of]

    def decided(self) -> set[tuple[str, str, int]]:
        """(session, task, number) of all instances that must be decided."""
        complete = [number for number in range(self.sessions) if not _lacks(number)]
        return {(self.session(number), "t_effect", 0) for number in complete} | {
            (self.session(number), "t_then", 0) for number in complete if _goes_on(number)
        }

    def failing(self) -> set[tuple[str, str, int]]:
        """Those of ``decided`` whose task fails."""
        return set()

    def commands(self, app: AppId) -> set[CommandId]:
        """The ids of all commands that must be decided."""
        return _ids(app, self.decided())

    def effects(self, app: AppId) -> set[CommandId]:
        """The ids of all commands that must take effect."""
        return _ids(app, self.decided() - self.failing())

    def owns(self, session: str) -> bool:
        """Whether ``session`` is one of this plan's."""
        return session.rpartition("-")[0] == self.name


def _ids(app: AppId, instances: set[tuple[str, str, int]]) -> set[CommandId]:
    return {
        command_id(app, SessionId(session), generation=0, task=TaskName(task), number=number)
        for session, task, number in instances
    }


def _lacks(number: int) -> bool:
    return number % _INCOMPLETE_EVERY == 0


def _goes_on(number: int) -> bool:
    return number % _CONTINUED_EVERY == 1
