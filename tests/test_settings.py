"""Addresses: one reading of a path, wherever it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engines import running_engine
from triggerstream import bootstrap
from triggerstream.adapters.sqlite.database import locate as located_by_the_adapter
from triggerstream.core.events import Erase
from triggerstream.settings import SqliteAddress, locate, parse_address


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("state", "state/triggerstream.db"),
        ("new", "new/triggerstream.db"),
        ("new.db", "new.db"),
        ("odd.db", "odd.db/triggerstream.db"),
        ("file.sqlite", "file.sqlite"),
    ],
)
def test_a_path_names_the_same_database_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, file: str
) -> None:
    """``state`` and ``odd.db`` are directories, ``file.sqlite`` is a file; the others are not there yet."""
    monkeypatch.chdir(tmp_path)
    for directory in ("state", "odd.db"):
        Path(directory).mkdir()
    Path("file.sqlite").touch()
    found = SqliteAddress(path=Path(file))
    assert locate(given) == found
    assert parse_address(f"sqlite:///{given}") == found
    assert locate(str(found)) == found
    assert located_by_the_adapter(given) == tmp_path / file
    assert located_by_the_adapter(file) == tmp_path / file


async def test_a_database_of_another_ending_is_read_where_it_was_written(tmp_path: Path) -> None:
    with running_engine(tmp_path / "state") as engine:
        engine.append("s", Erase())
    written = tmp_path / "state" / "triggerstream.db"
    moved = written.rename(tmp_path / "copy.sqlite")
    reader = bootstrap.reader(str(SqliteAddress(path=moved)))
    assert (await reader.progress()).end == 1
    await reader.close()
    assert not (tmp_path / "copy.sqlite" / "triggerstream.db").exists()
