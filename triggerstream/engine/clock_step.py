"""Steps of the wall clock: how far it was set forward since it was last trusted.

Time since the machine's start passes while it sleeps, and nobody can set it. So the wall clock minus that
time stays the same, but for what the clock was corrected by.
"""

from __future__ import annotations

from typing import NamedTuple

from triggerstream.core import advice
from triggerstream.core.durations import describe_duration
from triggerstream.wire.instants import format_instant

LARGEST_STEP_US = 5 * 60 * 1_000_000
"""A correction up to this passes: NTP slews or steps by seconds, a wrong date is off by hours at least."""
CLOCK_PAUSE_S = 1.0
"""Time between two looks at a clock that was set forward."""


class ClockReading(NamedTuple):
    """The clocks of a machine at one time. ``boot`` names the machine's start, since which time passed."""

    boot: str
    since_boot_us: int
    now_us: int

    @property
    def started_us(self) -> int:
        """When the machine started, by the wall clock as it is now."""
        return self.now_us - self.since_boot_us


def step_forward_us(trusted_boot: str, trusted_started_us: int, now: ClockReading) -> int:
    """How far the clock was set forward since it was trusted; 0 after a restart of the machine."""
    if now.boot != trusted_boot:
        return 0
    return max(now.started_us - trusted_started_us, 0)


def describe_step(step_us: int, now_us: int) -> str:
    """Why nothing is accepted while the clock is ``step_us`` ahead."""
    return (
        f"this machine's clock was set forward by {describe_duration(step_us)} and shows "
        f"{format_instant(now_us)}: no event is accepted, because it would hold up the timers of its session "
        f"until then. Set the clock back, or {advice.accept_clock()}"
    )
