"""The table that counts the crash test's effects."""

from __future__ import annotations

from sqlalchemy import Column, MetaData, String, Table

EFFECTS_VARIABLE = "CRASHING_EFFECTS"

metadata = MetaData()
effects = Table("effects", metadata, Column("session", String), Column("command", String))
"""No key, no constraint: every effect leaves its row."""
