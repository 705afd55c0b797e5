"""Reports time keys of a task that contradict one another or the task's conditions."""

from __future__ import annotations

from collections.abc import Mapping

from triggerstream.wire.tasksfile.conditions import LocatedCondition
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName

_APART = (
    ("delay", "debounce", "a debounced task waits already: `atMost` of `debounce` limits that wait"),
    ("within", "debounce", "write two tasks, one with `within`, and after it one with `debounce`"),
)
"""Keys that do not go together, with what to write instead."""
_MORE_THAN_ONE = ("count", "each", "key")


def check_times(keys: Mapping[str, LocatedName], after: LocatedCondition, findings: Findings) -> None:
    """Report contradictions. ``keys`` are the keys of the task that are given, ``after`` its condition."""
    for one, other, instead in _APART:
        if one in keys and other in keys:
            later = max(keys[one], keys[other], key=lambda key: key.at)
            message = f"`{one}` and `{other}` do not go together: {instead}"
            later.error(findings, "conflicting-keys", message)
    if "within" in keys:
        for leaf in after.leaves:
            if "each" in leaf.keys:
                message = (
                    "`each` and `within` do not go together: `each` holds the first event for each element, "
                    "`within` the newest ones"
                )
                leaf.keys["each"].error(findings, "conflicting-keys", message)
    if "debounce" in keys:
        message = "`{}` and `debounce` do not go together: each trigger brings its newest event only"
        for place in after.sequences:
            place.error(findings, "conflicting-keys", message.format("sequence"))
        for leaf in after.leaves:
            key = next((leaf.keys[key] for key in _MORE_THAN_ONE if key in leaf.keys), None)
            if key is not None and not leaf.in_sequence:
                key.error(findings, "conflicting-keys", message.format(key.text))
