"""Pages lead where they say: links, anchors, paths, tests and targets of ``make`` that they name exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from triggerstream.cli.program import _COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "triggerstream"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "schemas/README.md",
        *(ROOT / "examples").glob("*/README.md"),
    ]
)
HISTORY = ROOT / "CHANGELOG.md"
"""Names things as they were."""
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@cache
def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def _rooms() -> set[str]:
    return {entry.name for entry in PACKAGE.iterdir() if entry.is_dir()}


@cache
def _text_of_tests() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


def _named_paths(page: Path) -> Iterator[str]:
    """Paths of this repository between backticks: they begin with one of its folders or of its package."""
    made = {"build"}  # what commands write
    tops = ({entry.name for entry in ROOT.iterdir() if entry.is_dir()} | _rooms()) - made
    for named in re.findall(r"`([\w.*-]+(?:/[\w.*-]+)*/?)`", _prose(page)):
        if "/" in named and named.split("/")[0] in tops:
            yield named


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_a_page_has_no_conflict_of_a_merge(page: Path) -> None:
    assert not re.findall(r"^(?:<{7}|={7}$|>{7}).*", page.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{_id(page)}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{_id(page)}: {link}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=_id)
def test_paths_that_a_page_names_exist(page: Path) -> None:
    missing = [
        named
        for named in _named_paths(page)
        if not any(any(base.glob(named.rstrip("/"))) for base in (ROOT, PACKAGE, page.parent))
    ]
    assert not missing, _id(page)


def test_files_in_the_drawing_exist_and_its_hops_are_those_of_the_page() -> None:
    drawing = (ROOT / "docs/architecture.svg").read_text(encoding="utf-8")
    ET.fromstring(drawing)  # noqa: S314 - our own file; raises if it is not well-formed
    files = " ".join(re.findall(r'<text class="file".*?>(.*?)</text>', drawing)).replace(",", " ").split()
    assert files
    assert [name for name in files if not (PACKAGE / name).exists()] == []
    hops = re.findall(r'<text class="number".*?>(\d+)</text>', drawing)
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    assert hops == re.findall(r"^\| (\d+) \|", page, re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=_id)
def test_tests_and_targets_that_a_page_names_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z0-9-]+)`", _prose(page)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{_id(page)}: make {target}"
    for name in re.findall(r"`(test_\w+?)_?…?`", _prose(page)):
        assert f"def {name}" in _text_of_tests(), f"{_id(page)}: {name}"


def test_checks_before_a_commit_download_nothing_and_call_what_there_is() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        tool, argument, *_ = hook["entry"].split()
        assert tool.startswith(".venv/bin/") or re.search(rf"^{argument}:", makefile, re.MULTILINE), hook


def test_tests_that_the_makefile_leaves_out_exist() -> None:
    for path, name in re.findall(
        r"(tests/[\w/]+\.py)::(\w+)", (ROOT / "Makefile").read_text(encoding="utf-8")
    ):
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_pages_that_code_names_exist() -> None:
    for top in (PACKAGE, ROOT / "tests"):
        for path in top.rglob("*.py"):
            for named in re.findall(r"docs/[\w/.-]+\.md", path.read_text(encoding="utf-8")):
                assert (ROOT / named).exists(), f"{_id(path)}: {named}"


def test_the_map_names_every_room() -> None:
    design = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    map_ = design.partition("## A map")[2].partition("\n## ")[0]
    rooms = [path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]
    missing = [
        room
        for path in sorted(rooms)
        if not (room := path.relative_to(PACKAGE).as_posix()).startswith("demo") and f"`{room}/" not in map_
    ]
    assert not missing


def _glossary_rows() -> list[list[str]]:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0] not in {"term", "---"}]


@pytest.mark.parametrize("row", _glossary_rows(), ids=lambda row: row[0])
def test_a_term_lives_where_the_glossary_says(row: list[str]) -> None:
    named = re.findall(r"`(.*?)`", row[-1])
    paths = [
        path
        for name in named
        if "/" in name or name.endswith(".py")
        for path in PACKAGE.glob(name.rstrip("/"))
    ]
    text = "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
    names = [name for name in named if "/" not in name and not name.endswith(".py")]
    missing = [part for name in names for part in name.split(".") if part not in text]
    assert not missing


_SYMBOL = re.compile(r"`([A-Z][a-z]\w*(?:\.[a-z_]+)?|_?[A-Za-z]+(?:_[A-Za-z]+)+|_[a-z]+)`")
"""A name of code between backticks: ``Filter.tags``, ``stored_kwargs``, ``_fire``."""
_DEFINED = re.compile(r"^\s*(?:class |(?:async )?def )?(\w+)(?=[(:]| = )", re.MULTILINE)
_OF_LIBRARIES = {"Struct", "assert_never", "aiokafka", "Celery"}


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/design.md"])
def test_names_of_code_that_a_page_names_are_defined(page: str) -> None:
    named = {name for name in _SYMBOL.findall(_prose(ROOT / page)) if not name.isupper()}
    defined = _defined_names() | _OF_LIBRARIES
    assert {name for name in named if not set(name.split(".")) <= defined} == set()


@cache
def _defined_names() -> frozenset[str]:
    return frozenset(
        name for path in PACKAGE.rglob("*.py") for name in _DEFINED.findall(path.read_text(encoding="utf-8"))
    )


FORMER_NAMES = (
    *("Bell", "Buried", "Everywhere", "Front", "Graveyard", "Lane", "Life", "Narrator", "Patience", "Pulse"),
    *("Silence", "Spot", "Strays", "Vitals", "Voice", "Window", "strays"),
)
"""Private words that named classes and functions before a term of the field did."""


@pytest.mark.parametrize("name", FORMER_NAMES)
def test_a_private_word_names_nothing_any_more(name: str) -> None:
    definition = re.compile(rf"^\s*(?:class|(?:async )?def) {name}\b", re.MULTILINE)
    assert [p for p in PACKAGE.rglob("*.py") if definition.search(p.read_text(encoding="utf-8"))] == []


def test_readme_lists_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| command \| what it does \|\n(.*?)\n\n", readme, re.DOTALL | re.MULTILINE)
    listed = {
        name.split()[0] for row in table.splitlines() for name in re.findall(r"`(.*?)`", row.split(" | ")[0])
    }
    assert listed == set(_COMMANDS)


def test_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [page for page in PAGES if page not in DECISIONS and page != ROOT / "README.md"]
    assert [_id(page) for page in pages if f"]({_id(page)})" not in readme] == []


def test_decisions_are_numbered_and_dated_in_their_order_and_listed() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\d{4})\]\((.*?)\) \| (.*?) \| (.*?) \|$", index, re.MULTILINE)
    expected = []
    for page in DECISIONS:
        text = page.read_text(encoding="utf-8")
        date = re.search(r"^Date: (\d{4}-\d{2}-\d{2})\. Status: ", text, re.MULTILINE)
        assert date is not None, f"{_id(page)}: no line “Date: YYYY-MM-DD. Status: …”"
        expected.append((page.name[:4], page.name, date[1], text.splitlines()[0].removeprefix("# ")))
    assert listed == expected
    assert [number for number, *_ in expected] == [f"{number:04}" for number in range(1, len(expected) + 1)]
    assert (dates := [date for *_, date, _ in expected]) == sorted(dates)
    unnumbered = {page.name for page in (ROOT / "docs/decisions").iterdir()} - {
        page.name for page in DECISIONS
    }
    assert unnumbered == {"README.md"}
