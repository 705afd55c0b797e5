"""The page of recipes: its files have no findings, their tests pass, its commands print what it shows."""

from __future__ import annotations

import re

import pytest

from tests.recipes import PAGE, Recipe, recipes, rendered
from triggerstream.wire.tasksfile import check
from triggerstream.wire.tasksfile.jsonc import parse
from triggerstream.wire.tasksfile.tree import plain
from triggerstream.wire.xtests import read_tests

TEXT = PAGE.read_text(encoding="utf-8")
RECIPES = [*recipes(TEXT)]


def test_every_heading_has_a_recipe_and_a_line_in_the_table() -> None:
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    files = re.findall(r"^```jsonc$", TEXT, re.MULTILINE)
    assert len(RECIPES) == len(headings) == len(files) == len({one.name for one in RECIPES})
    linked = re.findall(r"^\| \[[^\]]*\]\(#([a-z-]+)\)", TEXT, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
    assert linked == anchors


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_has_no_finding_and_says_in_tests_what_is_decided(recipe: Recipe) -> None:
    assert check(recipe.file, name=recipe.name)[1] == ()
    found, mistakes = read_tests(recipe.file, name=recipe.name)
    assert (mistakes, found.malformed) == ((), ())
    assert len(found.tests) > 1
    assert any(one.commands for one in found.tests)
    assert [command.split()[0] for command in recipe.commands] == ["simulate", "test"]


def test_the_commands_print_what_the_page_shows() -> None:
    assert rendered(TEXT) == TEXT, "run `make recipes`, and look at what changed"


def test_the_recipes_use_the_whole_language() -> None:
    used: set[str] = set()

    def note(value: object) -> None:
        if isinstance(value, dict):
            used.update(value)
            for member in value.values():
                note(member)
        elif isinstance(value, list):
            for item in value:
                note(item)

    for recipe in RECIPES:
        document = parse(recipe.file)
        assert document.root is not None
        note(plain(document.root))
    assert used >= {
        *("any", "atLeast", "sequence", "where", "as", "count", "key", "each"),
        *("unless", "unlessFrom", "andEvery", "appliesTo", "withParams", "retry"),
        *("within", "deadline", "delay", "debounce", "repeat", "maxConcurrency", "paused"),
    }
