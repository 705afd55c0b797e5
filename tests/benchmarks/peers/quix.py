"""quix-streams with state, changelog, exactly-once. It stops, and commits, with the last session's command.

By default it commits every 5 s; that wait at the end would be in the measured time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from quixstreams import Application, State, message_context

from tests.benchmarks.peers import same_content
from tests.benchmarks.peers.arguments import PARTS, Arguments, arguments

_DEFAULT_COMMIT_S = 5.0
"""quix-streams' own."""
_Fold = Callable[[dict[str, Any], str, int, object, State[str, Any]], dict[str, Any] | None]


def lean(
    event: dict[str, Any],
    key: str,
    timestamp: int,  # noqa: ARG001 - quix's signature
    headers: object,  # noqa: ARG001 - quix's signature
    state: State[str, Any],
) -> dict[str, Any] | None:
    """Keep what a session has seen in one value of its state; the command has it all."""
    seen = state.get("seen", {})
    seen[event["type"]] = event["data"]
    state.set("seen", seen)
    return {"session": key, "seen": seen} if len(seen) == len(PARTS) else None


def same(app: str) -> _Fold:
    """The fold that keeps and writes what the worker does."""

    def fold(
        event: dict[str, Any],
        key: str,
        timestamp: int,
        headers: object,  # noqa: ARG001 - quix's signature
        state: State[str, Any],
    ) -> dict[str, Any] | None:
        session = state.get("session") or same_content.begin()
        offset = message_context().offset
        time_us = timestamp * 1_000
        command = same_content.fold(session, event, app=app, session=key, offset=offset, time_us=time_us)
        state.set("session", session)
        return command

    return fold


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
        commit_interval=_DEFAULT_COMMIT_S if told.commit_ms is None else told.commit_ms / 1_000,
    )
    events = app.topic(told.events, key_deserializer="str", value_deserializer="json")
    commands = app.topic(told.commands, key_serializer="str", value_serializer="json")
    fold: _Fold = same(told.app) if told.content == "same" else lean
    decided = app.dataframe(events).apply(fold, stateful=True, metadata=True)
    decided = decided.filter(_is_command)
    decided.to_topic(commands)
    app.run(count=told.commands_due, collect=False)


if __name__ == "__main__":
    run(arguments())
    sys.exit(0)
