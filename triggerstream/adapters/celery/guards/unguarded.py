"""The claim of a task that has no guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triggerstream.core.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Unguarded:
    """The claim of a task without a guard."""

    token = ""
    fatal_when_lost = False

    def connection(self) -> Connection:
        raise UsageError(
            "current().connection: this task has no guard; install(app, guard=SqlGuard(…)) gives it one"
        )

    def renew(self) -> bool:
        return True

    def settle(self, value: bytes) -> bytes:
        return value

    undo = settle

    def release(self) -> None:
        pass

    abandon = release
