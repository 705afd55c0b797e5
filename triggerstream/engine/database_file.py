"""The database file of an embedded engine: its name in a state directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DATABASE: Final = "triggerstream.db"
"""Name of the database in a state directory."""
_SUFFIX = ".db"


def database_file(path: Path) -> Path:
    """The database that ``path`` names: a file or a path that ends in ``.db``, else one in this directory.

    Raises:
        OSError: ``path`` cannot be accessed.
    """
    if path.is_file() or (path.suffix == _SUFFIX and not path.is_dir()):
        return path
    return path / DATABASE
