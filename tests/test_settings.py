"""Addresses: one reading of a path, wherever it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engines import running_engine
from triggerstream import bootstrap
from triggerstream.adapters.sqlite.database import locate as located_by_the_adapter
from triggerstream.core.errors import UsageError
from triggerstream.core.events import Erase
from triggerstream.settings import (
    DEFAULT_APP,
    HttpAddress,
    SqliteAddress,
    kafka_address,
    locate,
    parse_address,
)


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


def test_addresses_say_what_can_be_done_with_them(tmp_path: Path) -> None:
    database, intake = SqliteAddress(path=tmp_path / "own.db"), HttpAddress(url="http://127.0.0.1:8777")
    app = kafka_address("one:9092,two:9092", "app")
    assert (database.app, intake.app, app.app) == (DEFAULT_APP, DEFAULT_APP, "app")
    assert [one.administered for one in (database, intake, app)] == [False, False, True]
    assert [one.state_directory for one in (database, intake, app)] == [None, None, None]
    assert locate(str(tmp_path)).state_directory == tmp_path
    assert [one.missing_file for one in (database, intake, app)] == [tmp_path / "own.db", None, None]
    (tmp_path / "own.db").touch()
    assert database.missing_file is None


@pytest.mark.parametrize("brokers", ["one", "one:x", "one:0", "one:9092,", "", "one:9092/other"])
def test_brokers_that_are_none_are_refused(brokers: str) -> None:
    with pytest.raises(UsageError, match=f"^kafka://{brokers}/app: "):
        kafka_address(brokers, "app")


def test_an_intake_and_a_database_are_refused_where_they_cannot_serve() -> None:
    intake, database = HttpAddress(url="http://127.0.0.1:8777"), SqliteAddress(path=Path("x.db"))
    with pytest.raises(UsageError, match="an HTTP intake takes triggers only"):
        bootstrap.reader(intake)
    for address in (intake, database):
        with pytest.raises(UsageError, match="has no topics to administer"):
            bootstrap.administration(address)
