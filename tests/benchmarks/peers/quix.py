"""quix-streams with state, changelog, exactly-once. It stops, and commits, with the last session's command.

Left to itself it commits every 5 s; to wait for that at the end would be no measure of what it can do.
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application, State

from tests.benchmarks.peers.arguments import PARTS, Arguments, arguments, say_ready


class Fold:
    """Keeps what a session has seen in one value of its state."""

    def __init__(self) -> None:
        self._said = False

    def __call__(
        self,
        event: dict[str, Any],
        key: str,
        timestamp: int,  # noqa: ARG002 - quix's signature
        headers: object,  # noqa: ARG002 - likewise
        state: State[str, Any],
    ) -> dict[str, Any] | None:
        """The command, or None."""
        if not self._said:
            self._said = True
            say_ready()
        seen = state.get("seen", {})
        seen[event["type"]] = event["data"]
        state.set("seen", seen)
        return {"session": key, "seen": seen} if len(seen) == len(PARTS) else None


def _is_command(value: object) -> bool:
    return value is not None


def run(told: Arguments) -> None:
    """Process all there is."""
    app = Application(
        broker_address=told.bootstrap,
        consumer_group=told.app,
        auto_offset_reset="earliest",
        state_dir=told.directory,
        processing_guarantee="exactly-once",
        loglevel="WARNING",
    )
    events = app.topic(told.events, key_deserializer="str", value_deserializer="json")
    commands = app.topic(told.commands, key_serializer="str", value_serializer="json")
    decided = app.dataframe(events).apply(Fold(), stateful=True, metadata=True)
    decided = decided.filter(_is_command)
    decided.to_topic(commands)
    app.run(count=told.sessions, collect=False)


if __name__ == "__main__":
    run(arguments())
    sys.exit(0)
