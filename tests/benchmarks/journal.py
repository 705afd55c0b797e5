"""Results of the runs of a benchmark, kept so that an interrupted one continues where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Fields: TypeAlias = dict[str, Any]
"""Values of JSON: text, numbers, lists of them."""


class Journal:
    """A file of JSON lines, one a run. A run whose key is in the file is not made again.

    ``common`` is part of every key: results of another commit or interpreter do not count.
    """

    def __init__(self, path: Path | None, common: Mapping[str, object]) -> None:
        self._path = path
        self._common = dict(common)
        self._known: dict[str, Fields] = {}
        if path is not None and path.exists():
            text = path.read_text()
            for line in text.splitlines():
                self._take(line)
            if text and not text.endswith("\n"):
                path.write_text(f"{text}\n")

    def _take(self, line: str) -> None:
        """Keep the result of a line. The last line may have been cut off when the run was interrupted."""
        try:
            key, value = json.loads(line)
        except ValueError:
            return
        self._known[_text(key)] = value

    def knows(self, key: Mapping[str, object]) -> bool:
        """Whether the run with this key was made before."""
        return _text(self._whole(key)) in self._known

    def result(self, key: Mapping[str, object], run: Callable[[], Fields]) -> Fields:
        """The result of the run with this key: the one in the file, else that of ``run``, which is added."""
        whole = self._whole(key)
        found = self._known.get(_text(whole))
        if found is not None:
            return found
        made = run()
        self._known[_text(whole)] = made
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps([whole, made]) + "\n")
        return made

    def _whole(self, key: Mapping[str, object]) -> Fields:
        return {**self._common, **key}


def _text(key: Mapping[str, object]) -> str:
    return json.dumps(key, sort_keys=True)
