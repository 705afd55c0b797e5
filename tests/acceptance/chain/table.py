"""The table that counts the effects of the chain, and the environment variables of its processes."""

from __future__ import annotations

from sqlalchemy import Column, MetaData, String, Table

EFFECTS_VARIABLE = "CHAIN_EFFECTS"
BROKER_VARIABLE = "CHAIN_BROKER"
DEATHS_VARIABLE = "CHAIN_DEATHS"
"""A folder: who finds a file there that names a place in a task dies there, and the file is gone."""

metadata = MetaData()
effects = Table(
    "effects",
    metadata,
    Column("session", String),
    Column("task", String),
    Column("command", String),
)
"""No key, no constraint: every effect leaves its row."""
