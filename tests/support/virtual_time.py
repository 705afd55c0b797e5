"""An event loop whose clock jumps to the next timer instead of waiting for it.

For code that reads the time only from its loop and waits for nothing but its loop's timers.
"""

from __future__ import annotations

import asyncio
import selectors


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its clock begins at 0, and moves only when all tasks wait."""

    def __init__(self) -> None:
        self._virtual_time = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Virtual time, in seconds."""
        return self._virtual_time

    def jump(self, seconds: float) -> None:
        """Move the clock on."""
        self._virtual_time += seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, move the clock to the next timer."""
        ready = super().select(0)
        if timeout is None and not ready:
            raise AssertionError("all tasks wait for something that no timer brings about")
        if not ready and timeout:
            self._loop.jump(timeout)
        return ready
