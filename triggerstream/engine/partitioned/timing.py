"""Limits and intervals of a partition."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTiming:
    """Limits and intervals of a partition.

    ``silence_s``: the process ends if no broker has answered a checkpoint, fence or append for this time.
    ``longest_s``: it also ends if one of them takes longer than this although brokers answer. No transaction
    lives half as long. ``group_offset_every_s``: how often the group offset is committed for lag monitors. A
    commit with every checkpoint would take most of its time. ``keep_alive_s``: the longest time without a
    commit, because brokers forget a transactional id after 7 days without one
    (``transactional.id.expiration.ms``). ``prune_s``: how often to look for configurations that no session
    needs any more.
    """

    silence_s: float = 10.0
    longest_s: float = 120.0
    group_offset_every_s: float = 1.0
    keep_alive_s: float = 86_400.0
    prune_s: float = 600.0
