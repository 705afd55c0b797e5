"""Keys and names that people try in a tasks file, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

_ON_DATA: Final = (
    'a condition on data is the `where` of a trigger in `after` or `unless`: `{"trigger": "a", "where": '
    '"data.score > 3"}`'
)
_AT_A_TIME: Final = (
    "there are no times of day: have cron or Celery beat fire a trigger, and name it in `after`; to wait "
    "before a retry, write `retry`"
)
_ANY_OF: Final = 'any one of several is `{"any": ["a", "b"]}`, in `after` or `unless`'
_SOME_OF: Final = 'two of three are `{"atLeast": 2, "of": ["a", "b", "c"]}`, in `after` or `unless`'
_HOW_MANY: Final = (
    'events are counted by a trigger of `after`: `{"trigger": "a", "count": 3}`; to run for each further '
    "one, write `andEvery`"
)
_DIFFERENT: Final = (
    'events with different values are counted by `{"trigger": "a", "key": "data.id", "count": 3}`, in `after`'
)
_FOR_EACH: Final = (
    'one event for each element of a list is `{"trigger": "b", "key": "data.id", "each": {"of": "a", '
    '"list": "data.ids"}}`, in `after`'
)
_IN_ORDER: Final = 'events in their order are `{"sequence": ["a", "b"]}`, in `after`'
_UNDER_A_NAME: Final = (
    'a name for what a trigger brought is its `as`: `{"trigger": "a", "as": "first"}`, in `after`'
)
_IN_AFTER: Final = '`after` lists the triggers, all of which must arrive: `"after": ["a", "b"]`'
_IN_UNLESS: Final = "`unless` lists the triggers that abandon the task once all have arrived"
_IN_RUN: Final = 'write the registered name of the Celery task as `"run": "my_app.tasks.Report"`'
_IN_PARAMS: Final = "arguments stand in `withParams`, {trigger: arguments}"

INSTEAD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("if", "condition", "filter", "where"), _ON_DATA),
    **dict.fromkeys(("at", "cron", "schedule", "every", "time"), _AT_A_TIME),
    **dict.fromkeys(("or", "any", "anyOf", "oneOf"), _ANY_OF),
    **dict.fromkeys(("atLeast", "quorum", "nOf", "of"), _SOME_OF),
    **dict.fromkeys(("count", "times", "min"), _HOW_MANY),
    **dict.fromkeys(("key", "distinct", "unique", "groupBy"), _DIFFERENT),
    **dict.fromkeys(("each", "forEach", "covers"), _FOR_EACH),
    **dict.fromkeys(("sequence", "order", "ordered", "inOrder"), _IN_ORDER),
    **dict.fromkeys(("as", "alias"), _UNDER_A_NAME),
    **dict.fromkeys(
        ("and", "all", "allOf", "when", "on", "needs", "requires", "trigger", "triggers"), _IN_AFTER
    ),
    **dict.fromkeys(("not", "except"), _IN_UNLESS),
    **dict.fromkeys(("then", "do", "task", "action", "call"), _IN_RUN),
    **dict.fromkeys(("args", "kwargs", "params", "with"), _IN_PARAMS),
}
_FOLDED: Final[Mapping[str, str]] = {key.lower(): answer for key, answer in INSTEAD.items()}

_OR = re.compile(r"\S(?:\s+or\s+|\s*\|\|?\s*)\S", re.IGNORECASE)
_AND = re.compile(r"\S(?:\s+and\s+|\s*&&\s*|\s+&\s+)\S", re.IGNORECASE)


def instead_of(key: str) -> str | None:
    """The answer to a key that people try, in any case; None if there is none."""
    return _FOLDED.get(key.lower())


def condition_in_name(name: str) -> Literal["and", "or"] | None:
    """The operator between names that stand in one string, as in ``a or b``; None if there is none."""
    if _OR.search(name):
        return "or"
    return "and" if _AND.search(name) else None
