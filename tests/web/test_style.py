"""The style sheet: text can be read in both schemes, as WCAG's level AA has it."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

STYLE = files("triggerstream.web").joinpath("static", "style.css").read_text()
ENOUGH = 4.5
ON = [
    *((ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "card", "code")),
    *((ink, ground) for ink in ("waits", "runs", "failed", "done") for ground in ("card", f"{ink}-bg")),
    ("waits", "page"),
    ("failed", "code"),
    ("soft", "past-bg"),
    ("on-accent", "accent"),
]


def scheme(name: str) -> dict[str, str]:
    """The colours by name."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light))
    return colours if name == "light" else colours | dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", dark))


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_stands_out(name: str) -> None:
    colours = scheme(name)
    for ink, ground in ON:
        one, other = sorted((luminance(colours[ink]), luminance(colours[ground])))
        contrast = (other + 0.05) / (one + 0.05)
        assert contrast >= ENOUGH, f"{ink} on {ground}: {contrast:.1f}"


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert ":focus-visible" in STYLE
