"""Keys and names that people try in a tasks file, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

_ON_DATA: Final = (
    'a condition on data is the `where` of a trigger in `after` or `unless`: `{"trigger": "a", "where": '
    '"data.score > 3"}`'
)
_AT_A_TIME: Final = (
    "there are no times of day: have cron or Celery beat fire a trigger, and name it in `after`; to wait "
    "before the task runs, write `delay`, to run it again and again, `repeat`, and before a retry, `retry`"
)
_ON_TIMEOUT: Final = (
    "with `deadline`, a task `t_report` that has waited too long fires `t_report.timeout`, and other tasks "
    'can wait for it: `"after": ["t_report.timeout"]`'
)
_WAIT: Final = 'to wait before the task runs, write `"delay": "1h"`'
_WINDOW: Final = 'for events within some time of one another, write `"within": "10m"` in the task'
_BURST: Final = 'to run once for a burst of events, write `"debounce": "5m"`'
_AGAIN: Final = 'to run again and again until `unless` is met, write `"repeat": {"every": "1d", "max": 3}`'
_CONCURRENCY: Final = (
    'to limit how many instances run at a time in a session, write `"maxConcurrency": 2`; over all sessions, '
    "use Celery's `rate_limit` and queues"
)
_PAUSE: Final = 'to hold what a task would run, write `"paused": true`'
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
_NOT_YET: Final = (
    f"{_IN_UNLESS}; for what has not come after a while, name in `after` what to count from, and write "
    '`"unless": ["b"], "delay": "1h"`'
)
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
    **dict.fromkeys(("not", "without"), _NOT_YET),
    "except": _IN_UNLESS,
    **dict.fromkeys(("onTimeout", "timeout", "otherwise"), _ON_TIMEOUT),
    **dict.fromkeys(("wait", "countdown", "eta", "sleep"), _WAIT),
    **dict.fromkeys(("window", "timeWindow"), _WINDOW),
    **dict.fromkeys(("throttle", "quiet", "cooldown"), _BURST),
    **dict.fromkeys(("interval", "remind"), _AGAIN),
    **dict.fromkeys(("concurrency", "maxInstances", "maxParallel", "limit", "rateLimit"), _CONCURRENCY),
    **dict.fromkeys(("pause", "disabled", "enabled", "suspended"), _PAUSE),
    **dict.fromkeys(("then", "do", "task", "action", "call"), _IN_RUN),
    **dict.fromkeys(("args", "kwargs", "params", "with"), _IN_PARAMS),
}
_FOLDED: Final[Mapping[str, str]] = {key.lower(): answer for key, answer in INSTEAD.items()}

Operator: TypeAlias = Literal["and", "or", "not", "except", "several"]
"""What joins names in a string.

``several`` is a comma, which may mean either; ``except`` stands for an ``and`` in ``unless``.
"""

_BETWEEN: Final[Mapping[Operator, re.Pattern[str]]] = {
    "or": re.compile(r"(?<=\S)(?:\s+or\s+|\s*\|\|?\s*)(?=\S)", re.IGNORECASE),
    "and": re.compile(r"(?<=\S)(?:\s+and\s+|\s*&&\s*|\s+&\s+)(?=\S)", re.IGNORECASE),
}
_COMMA: Final = re.compile(r"\s*[,;]\s*")
_SLASH: Final = re.compile(r"\s*/\s*")
_NAME: Final = re.compile(r"[^\W\d][\w.-]*")
_WORDS: Final[Mapping[str, Operator]] = {
    **dict.fromkeys(("or", "|", "||"), "or"),
    **dict.fromkeys(("and", "&", "&&"), "and"),
    **dict.fromkeys(("not", "!"), "not"),
}
_ALL_OR_ANY: Final = 'all of several are `["a", "b"]`, any one of several is `{"any": ["a", "b"]}`'


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedNames:
    """Names in one string and what joins them. Both operators in one string: ``names`` is empty."""

    operator: Operator
    names: tuple[str, ...]


def instead_of(key: str) -> str | None:
    """The answer to a key that people try, in any case; None if there is none."""
    return _FOLDED.get(key.lower())


def instead_of_operator(operator: Operator) -> str:
    """What to write instead of an operator in or between names."""
    return _ALL_OR_ANY if operator == "several" else INSTEAD[operator]


def condition_in_name(name: str) -> JoinedNames | None:
    """The names that stand in one string, as in ``a or b`` and ``a, b``; None if it is one name."""
    if _NAME.fullmatch(name):
        return None  # nearly every name: it has no blank and no sign that could join two
    found: list[Operator] = [operator for operator, between in _BETWEEN.items() if between.search(name)]
    if found:
        names = _BETWEEN[found[0]].split(name) if len(found) == 1 else ()
        return JoinedNames(operator=found[0], names=tuple(names))
    names = _COMMA.split(name)
    if len(names) > 1 and all(map(_NAME.fullmatch, names)):
        return JoinedNames(operator="several", names=tuple(names))
    return None


def names_between_slashes(name: str) -> tuple[str, ...]:
    """The parts of ``a/b``, each of which could be a name; empty if there is no such part."""
    if "/" not in name:
        return ()
    names = _SLASH.split(name)
    return tuple(names) if len(names) > 1 and all(map(_NAME.fullmatch, names)) else ()


def operator_as_name(name: str) -> Operator | None:
    """The operator that stands alone in a string, as the ``or`` of ``["a", "or", "b"]``."""
    return _WORDS.get(name.lower())
