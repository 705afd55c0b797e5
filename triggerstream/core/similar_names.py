"""Names that people confuse: nearly alike, alike after normalisation, or with invisible characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from itertools import combinations

from triggerstream.core.printable import STEERING

_TYPO_WORD = 4
"""Letters that a word must have before one different letter is a slip: `step_a` and `step_b` are meant."""
_LONG_NAME = 12
"""Letters from which two slips are likely in one name."""
_LONG_WORD = 9
"""Letters from which two slips are likely in one word: `packed` and `placed` are two words."""
_NEAREST_CUTOFF = 0.6
_COMPARED = 64
"""Names longer than this are only alike once normalised: an event's name may have a thousand characters."""
_MANY_NAMES = 500
"""Names from which on only one slip in a name is looked for: two take a millisecond for each name."""
_CROWD = 20
"""Names that share a spelling and are compared: more of them are a family of names, and no slips."""

_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u03bf\u03bd\u03b1",
    "aeopcyxijshdova",
)
"""Cyrillic and Greek letters that look like Latin ones."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_NUMBERS = re.compile(r"\d+")
_SEPARATORS = re.compile(r"[\s_.:/-]+")
_INVISIBLE = re.compile(
    f"[{STEERING}"
    r"\u00a0\u00ad\u034f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200a\u202f\u205f\u2800\u3000"
    r"\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
    r"|^\x20+|\x20+$"
)


def invisible_characters(name: str) -> list[str]:
    """The characters of ``name`` that nobody sees, each once; blanks at its ends included."""
    return list(dict.fromkeys(char for found in _INVISIBLE.findall(name) for char in found))


def describe_character(char: str) -> str:
    """``char`` as ``U+200B (zero width space)``."""
    return f"U+{ord(char):04X} ({unicodedata.name(char, 'a control character').lower()})"


def normalized(name: str) -> str:
    """``name`` in NFKC, the form to which Python brings the names of parameters."""
    return unicodedata.normalize("NFKC", name)


def nearest(name: str, known: Collection[str]) -> str | None:
    """The name among ``known`` that was most likely meant by ``name``; None if none is near.

    Names with different numbers are never near: `file1` and `file2` are two names on purpose.
    """
    wanted = _folded(name)[:_COMPARED]
    by_fold = {_folded(other)[:_COMPARED]: other for other in reversed(list(known))}
    if wanted in by_fold:
        return by_fold[wanted]
    possible = [other for other in by_fold if not have_different_numbers(wanted, other)]
    close = get_close_matches(wanted, possible, n=1, cutoff=_NEAREST_CUTOFF)
    return by_fold[close[0]] if close else None


def have_different_numbers(left: str, right: str) -> bool:
    """True if both names have numbers, and not the same ones in the same order."""
    one, other = _NUMBERS.findall(left), _NUMBERS.findall(right)
    return bool(one and other) and one != other


def alike_pairs(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of ``names`` that people would confuse, the earlier name first, in the order of the later one.

    Names that share a spelling with up to two letters left out are compared, not all with all: a file has
    thousands of names.
    """
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    known: dict[str, list[str]] = {}
    for name in order:
        keys = _keys(name, two_slips=len(order) < _MANY_NAMES)
        others = {other for key in keys for other in known.get(key, ())}
        for other in sorted(others, key=order.__getitem__):
            if are_alike(other, name):
                yield other, name
        for key in keys:
            crowd = known.setdefault(key, [])
            if len(crowd) < _CROWD:
                crowd.append(name)


def are_alike(left: str, right: str) -> bool:
    """True if two different names differ in case, separators or invisible characters, or by a slip.

    A different digit is no slip (`module1`, `module2`), nor is a short word (`step_a`), an added word
    (`t_orderShipped`), another beginning (`imported`, `exported`) or a plural.
    """
    if _folded(left) == _folded(right):
        return True
    if max(len(left), len(right)) > _COMPARED:
        return False
    differing = differing_characters(left, right)
    if any(char.isdigit() for char in differing):
        return False
    lower_left, lower_right = left.lower(), right.lower()
    distance = _edits(lower_left, lower_right)
    if distance == 1 and len({char.isascii() for char in differing}) > 1:
        return True  # letters of two alphabets: they may look the same
    if distance > (2 if min(len(left), len(right)) >= _LONG_NAME else 1):
        return False
    one, two = _words(left), _words(right)
    return len(one) == len(two) and all(_is_slip(a, b) for a, b in zip(one, two, strict=True) if a != b)


def _is_slip(one: str, other: str) -> bool:
    """True if one word is probably the other with a slip: of two short words that differ, both are meant."""
    if min(len(one), len(other)) < _TYPO_WORD or one + "s" == other or other + "s" == one:
        return False
    if one[0] != other[0]:
        return one[:2] == other[1::-1] and one[2:] == other[2:]  # exchanged letters
    return _edits(one, other) <= (2 if min(len(one), len(other)) >= _LONG_WORD else 1)


def describe_differing_letters(left: str, right: str) -> str:
    """The letters beyond ASCII that tell two names apart and may look the same; empty if there are none."""
    strange = [char for char in differing_characters(left, right) if not char.isascii()]
    return ", ".join(map(describe_character, dict.fromkeys(strange)))


def differing_characters(left: str, right: str) -> str:
    """The characters between the common beginning and the common end of two names."""
    begin = 0
    while begin < min(len(left), len(right)) and left[begin] == right[begin]:
        begin += 1
    end = 0
    while end < min(len(left), len(right)) - begin and left[-1 - end] == right[-1 - end]:
        end += 1
    return left[begin : len(left) - end] + right[begin : len(right) - end]


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(name)]


def _folded(name: str) -> str:
    """``name`` without differences that people overlook."""
    return _SEPARATORS.sub("", _INVISIBLE.sub("", normalized(name)).casefold()).translate(_LOOKALIKES)


def _keys(name: str, *, two_slips: bool) -> set[str]:
    """``name`` with up to one letter left out; of a long name up to two. Digits are never left out."""
    if len(name) > _COMPARED:
        return {_folded(name)}
    lower = name.lower()
    places = [place for place, char in enumerate(lower) if not char.isdigit()]
    keys = {lower, _folded(name), *(lower[:at] + lower[at + 1 :] for at in places)}
    if two_slips and len(lower) >= _LONG_NAME:
        keys.update(
            lower[:one] + lower[one + 1 : two] + lower[two + 1 :] for one, two in combinations(places, 2)
        )
    return keys


def _edits(left: str, right: str) -> int:
    """Letters added, left out, replaced or exchanged with their neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left):
        before, last, row = row, before, [i + 1]
        for j, b in enumerate(right):
            best = min(before[j + 1] + 1, row[j] + 1, before[j] + (a != b))
            if i and j and a == right[j - 1] and left[i - 1] == b:
                best = min(best, last[j - 1] + 1)
            row.append(best)
    return row[-1]
