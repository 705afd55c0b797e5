"""The choice of a first offset for a bridge."""

from __future__ import annotations

from typing import Literal, TypeAlias

Start: TypeAlias = "Literal['earliest', 'latest'] | int"
"""Where a bridge begins in partitions of which its group has no usable offset."""
