"""Every port has a suite, and every adapter that says which port it is stands in that suite."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "triggerstream"

NOT_SHARED = {
    "ClockWatch",  # of a database: one adapter, which tests/adapters/test_sqlite_clock.py uses
    "Administration",  # of an app in Kafka: one adapter, which tests/cli uses
    "OnEnd",  # a callback of processes, which the supervisor's tests use
    "HandOverProcess",  # one adapter: the bridge, which tests/adapters/kafka uses
    "RetiredSource",  # a part of Reader and of States, whose suites have it
    "Waiting",  # commands of the engines, for the code that both of them share
}
"""Protocols that are no port with more than one adapter."""

SUITES = {
    "Appender": "test_appender.py",
    "Archive": "test_archive.py",
    "ArchiveLedger": "test_ledger.py",
    "Clock": "test_clock.py",
    "Dispatcher": "test_dispatcher.py",
    "Fencing": "test_owners.py",
    "Guard": "test_guards.py",
    "Held": "test_guards.py",
    "Index": "test_index.py",
    "Inspector": "test_inspector.py",
    "Ledger": "test_ledger.py",
    "Log": "test_log.py",
    "OutcomeLog": "test_outcome_log.py",
    "OwnersTopic": "test_owners.py",
    "Reader": "test_reader.py",
    "RecordReader": "test_archive.py",
    "SessionSnapshot": "test_session_snapshot.py",
    "SessionSource": "test_session_source.py",
    "StateStore": "test_state_store.py",
    "States": "test_states.py",
    "Store": "test_store.py",
}
_NAMED = re.compile(r":class:`triggerstream\.(?:engine|adapters\.celery\.guards)[\w.]*\.(\w+)`")


def classes(*rooms: str) -> Iterator[ast.ClassDef]:
    for room in rooms:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def test_every_port_has_a_suite() -> None:
    ports = {
        one.name
        for one in classes("engine", "adapters/celery/guards")
        if any(isinstance(base, ast.Name) and base.id == "Protocol" for base in one.bases)
    }
    assert ports - NOT_SHARED == set(SUITES)
    assert all((HERE / name).exists() for name in SUITES.values())


def adapters() -> Iterator[tuple[str, str]]:
    """Each class that begins by naming the port that it is, with that port."""
    for one in classes("adapters", "engine", "web"):
        first = (ast.get_docstring(one) or "").split("\n")[0]
        if (found := _NAMED.search(first)) is not None and found[1] in SUITES:
            yield one.name, found[1]


@pytest.mark.parametrize(("adapter", "port"), sorted(adapters()))
def test_every_adapter_stands_in_the_suite_of_its_port(adapter: str, port: str) -> None:
    text = (HERE / SUITES[port]).read_text(encoding="utf-8")
    if "place_of" in text:
        text += (HERE / "places.py").read_text(encoding="utf-8")
    assert re.search(rf"\b{adapter}\b", text)
