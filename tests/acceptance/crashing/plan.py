"""The triggers of the crash test's producers and the sessions that they complete, derived from one seed."""

from __future__ import annotations

from random import Random

NEEDED = ("a", "b", "c", "d")
OTHERS = ("e", "f", "g", "h", "i", "j")
INCOMPLETE_EVERY = 4
TASKS = """{
  "t_effect": {"after": ["a", "b", "c", "d"], "run": "crashing.take_effect"},
  // Uses what arrives anyway, and is never complete.
  "t_never": {"after": ["a", "z"], "run": "crashing.take_effect"},
}"""


def is_complete(session: int) -> bool:
    """Every fourth session lacks one trigger."""
    return session % INCOMPLETE_EVERY != 0


def complete(sessions: int) -> set[str]:
    """The sessions whose task must take effect."""
    return {f"s{n}" for n in range(sessions) if is_complete(n)}


def share(sessions: int, *, seed: int, number: int, of: int) -> list[tuple[str, str]]:
    """The (session, trigger) pairs that producer ``number`` fires: ten for each session, spread over all."""
    events = [
        (f"s{n}", "e" if trigger == "d" and not is_complete(n) else trigger)
        for n in range(sessions)
        for trigger in (*NEEDED, *OTHERS)
    ]
    Random(seed).shuffle(events)
    return events[number::of]
