"""The recipes of ``docs/recipes.md``: their tasks files, and the outputs of their commands.

``python -m tests.recipes`` writes the outputs anew.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cli.conftest import Cli

PAGE: Final = Path(__file__).parents[1] / "docs" / "recipes.md"
_RECIPE: Final = re.compile(
    r"^> (?P<says>[^\n]+)\n\n(?:[^`>#\n][^\n]*\n|\n|[^\n]*`[^`\n]+`[^\n]*\n)*?"
    r"```jsonc\n(?P<file>.*?)^```\n\n```console\n(?P<console>.*?)^```\n",
    re.DOTALL | re.MULTILINE,
)
_COMMAND: Final = re.compile(r"^\$ triggerstream (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A business rule with its tasks file, and commands to try it with."""

    says: str
    name: str
    file: str
    commands: tuple[str, ...]


def recipes(page: str) -> Iterator[Recipe]:
    """Each recipe of the page. The first file that its commands name is its tasks file."""
    for found in _RECIPE.finditer(page):
        commands = tuple(_COMMAND.findall(found["console"]))
        (name,) = {shlex.split(command)[1] for command in commands}
        yield Recipe(says=found["says"], name=name, file=found["file"], commands=commands)


def outputs(page: str) -> Mapping[str, str]:
    """What each command of the page prints; the files of all recipes are there."""
    known = [*recipes(page)]
    printed: dict[str, str] = {}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            for recipe in known:
                Path(recipe.name).write_text(recipe.file, encoding="utf-8")
            for recipe in known:
                for command in recipe.commands:
                    ran = Cli(Path(directory))(*shlex.split(command))
                    assert (ran.status, ran.err) == (0, ""), f"{command}: {ran.err}{ran.out}"
                    printed[command] = "\n".join(line.rstrip() for line in ran.out.splitlines())
        finally:
            os.chdir(before)
    return printed


def rendered(page: str) -> str:
    """The page with the outputs of its commands."""
    printed = outputs(page)

    def with_outputs(found: re.Match[str]) -> str:
        commands = _COMMAND.findall(found["console"])
        shown = "".join(f"$ triggerstream {command}\n{printed[command]}\n" for command in commands)
        return found[0].replace(f"```console\n{found['console']}", f"```console\n{shown}")

    return _RECIPE.sub(with_outputs, page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
