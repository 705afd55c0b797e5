"""Environment variables: which commands read them, and the table that lists them all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from triggerstream import variables
from triggerstream.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
COMPARES_ONLY_IF_ASKED = {"config check"}


def commands(group: click.Group, ctx: click.Context, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, ctx, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def test_every_command_that_works_on_an_app_reads_one_variable_for_its_address() -> None:
    found = {
        path: option.envvar
        for path, command in commands(main, click.Context(main))
        for option in command.params
        if "--at" in option.opts
    }
    assert len(found) > 20
    assert {path for path, variable in found.items() if variable != variables.AT} == COMPARES_ONLY_IF_ASKED
    assert {"worker", "bridge", "fire", "dev", "doctor", "replay"} <= set(found)


def test_one_table_lists_all_variables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page[page.index("## Environment variables") :].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall("`([A-Z_]{5,})`", row.split("|")[1])}
    assert listed == {
        value for name, value in vars(variables).items() if name.isupper() and isinstance(value, str)
    }
