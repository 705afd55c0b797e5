"""The image has the versions that are tested, each known by its hashes."""

from __future__ import annotations

import re
import tomllib

from tests.k8s.rendering import MANIFESTS, ROOT

_PIN = re.compile(r"^([a-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    text = (ROOT / name).read_text()
    return {
        match[1]: (match[2], frozenset(re.findall(r"sha256:\w+", match[3]))) for match in _PIN.finditer(text)
    }


def test_the_image_has_the_very_packages_that_are_tested() -> None:
    tested = _pins("requirements.lock")
    for name in ("k8s/requirements.lock", "k8s/build.lock"):
        pins = _pins(name)
        assert len(pins) == (ROOT / name).read_text().count("==") > 0
        assert pins.items() <= tested.items()


def test_the_image_has_what_its_extras_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["kafka"], *extras["guard-redis"]]
    names = {match[0].lower().replace("_", "-") for need in wanted if (match := _NAME.match(need))}
    assert names <= _pins("k8s/requirements.lock").keys()


def test_no_lock_names_an_index() -> None:
    for lock in (ROOT / "requirements.lock", *MANIFESTS.glob("*.lock")):
        assert "://" not in lock.read_text()
        assert "--index-url" not in lock.read_text()


def test_the_lock_of_the_tests_holds_what_one_python_alone_needs() -> None:
    """`make lock` appends it: pip-compile leaves out what its own Python does not need."""
    assert (ROOT / "requirements.lock").read_text().endswith((ROOT / "python-3.13.lock").read_text())
