"""Writes the generated parts of ``docs/tasks-file.md``, from the schema.

``python -m tests.wire.tasksfile.reference``
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = ROOT / "docs" / "tasks-file.md"
SCHEMA: Final[dict[str, Any]] = json.loads(
    (ROOT / "schemas" / "tasks.schema.json").read_text(encoding="utf-8")
)
_DEFS: Final = SCHEMA["$defs"]
_PART = re.compile(r"(<!-- generated: (?P<name>\w+) -->\n).*?(<!-- end of generated part -->)", re.DOTALL)
_WIDTH = 120


def parts() -> dict[str, str]:
    """The generated parts by name."""
    task = _DEFS["task"]["properties"]
    groups = [(key, one) for name in _GROUPS for key, one in _DEFS[name]["properties"].items()]
    leaf = _DEFS["leaf"]["properties"]
    return {
        "tasks": _contents(task.items(), _DEFS["task"]["required"]) + _sections(task.items()),
        "groups": _contents(groups) + _sections(groups),
        "leaves": _contents(leaf.items(), _DEFS["leaf"]["required"]) + _sections(leaf.items()),
        "files": _contents(SCHEMA["properties"].items(), linked=False),
        "bounds": _bounds(SCHEMA["properties"]["$bounds"]["properties"]),
    }


_GROUPS: Final = ("any", "all", "atLeast", "sequence")


def _contents(keys: Iterable[tuple[str, Any]], required: Collection[str] = (), *, linked: bool = True) -> str:
    rows = [
        (
            f"[`{key}`](#{key.lower()})" if linked else f"`{key}`",
            one["examples"][0],
            _first_sentence(one["markdownDescription"]) + (" Required." if key in required else ""),
        )
        for key, one in keys
    ]
    lines = ["| key | for example | meaning |", "| --- | --- | --- |"]
    lines += [f"| {key} | {_shown(example)} | {meaning} |" for key, example, meaning in rows]
    return "\n".join(lines) + "\n"


def _shown(example: object) -> str:
    return f"`{json.dumps(example, ensure_ascii=False)}`"


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.:]) (?=[A-Z`])|\n\n", text, maxsplit=1)[0].rstrip(":")


def _sections(keys: Iterable[tuple[str, Any]]) -> str:
    return "".join(f"\n### `{key}`\n\n{_wrapped(one['markdownDescription'])}\n" for key, one in keys)


def _wrapped(text: str) -> str:
    """Paragraphs in lines of the page's width, with links to other pages; code as it is."""
    blocks = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "\n\n".join(
        block if block.startswith("```") else "\n\n".join(_lines(block.strip()))
        for block in blocks
        if block.strip()
    )


def _lines(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        lines: list[str] = [""]
        for word in re.sub(r"`(\w+\.md)`", r"[\1](\1)", paragraph).split(" "):
            if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
                lines.append(word)
            else:
                lines[-1] = f"{lines[-1]} {word}".strip()
        yield "\n".join(lines)


def _bounds(bounds: dict[str, Any]) -> str:
    lines = ["| bound | default, and greatest value | limits |", "| --- | --- | --- |"]
    for key, one in bounds.items():
        most = "" if one["maximum"] == one["default"] else f"; at most {one['maximum']}"
        limits = re.sub(r" From 1 to [^.]*\.", "", one["markdownDescription"])
        lines.append(f"| `{key}` | {one['default']}{most} | {limits} |")
    return "\n".join(lines) + "\n"


def rendered(page: str) -> str:
    """``page`` with its generated parts written anew."""
    written = parts()

    def write(match: re.Match[str]) -> str:
        return f"{match[1]}{written[match['name']]}{match[3]}"

    return _PART.sub(write, page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
