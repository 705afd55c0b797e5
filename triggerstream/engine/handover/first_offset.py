"""The choice of a first offset for a bridge."""

from __future__ import annotations

from typing import Literal, TypeAlias

FirstOffset: TypeAlias = "Literal['earliest', 'latest'] | int"
"""The start of a bridge in partitions for which its group has no usable offset."""
