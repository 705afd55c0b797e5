"""A compiled expression, how an evaluation of it ended, and whether events can change the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from triggerstream.core.ids import JsonObject
from triggerstream.core.where.closures import compile_node
from triggerstream.core.where.parser import parse
from triggerstream.core.where.tree import (
    FUNCTIONS,
    TIME_METHODS,
    Call,
    Chain,
    Choice,
    Items,
    Logic,
    Name,
    Node,
    Unary,
    children,
    elements_at_once,
)
from triggerstream.core.where.values import (
    BUDGET,
    DONE,
    STEPS,
    WORK,
    Evaluate,
    EvaluationError,
    OverBudgetError,
    OverWorkError,
    Run,
    kind,
)

Matches: TypeAlias = Callable[[JsonObject, int, str, str | None], bool]
"""Arguments: an event's data, its time in microseconds, its session, the id that its producer gave."""


class Answer(StrEnum):
    """How an evaluation ended. Only ``TRUE`` is a match."""

    TRUE = "true"
    FALSE = "false"
    NO_BOOLEAN = "no-boolean"
    ERROR = "error"
    OVER_BUDGET = "over-budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How an evaluation ended, with the reason in words; ``steps`` and ``work`` are what it cost."""

    answer: Answer
    text: str
    steps: int
    work: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A compiled expression. Two are equal if their texts are.

    ``matches`` never raises, and gives true only if the expression does: an error, a result that is no
    boolean and an evaluation over budget are no match.
    """

    text: str
    matches: Matches = field(repr=False, compare=False)

    def __reduce__(self) -> tuple[Callable[[str], Where], tuple[str]]:
        """Copies and pickles compile the text again: a closure cannot be copied."""
        return compile_where, (self.text,)


def compile_where(text: str) -> Where:
    """Compile an expression.

    Raises:
        WhereError: it is not in the language. ``message`` says what would be right, ``column`` where.
    """
    node = parse(text)
    return Where(text=text, matches=_matches(compile_node(node), elements_at_once(node)))


def _matches(evaluate: Evaluate, elements: int) -> Matches:
    room = [None] * elements

    def matches(data: JsonObject, time_us: int, session: str, event_id: str | None) -> bool:
        try:
            return evaluate(data, [0, 0, time_us, session, event_id, *room]) is True
        except (EvaluationError, OverBudgetError):
            return False

    return matches


# ---- for people: what happened, and what never changes -----------------------------------------------


def evaluate_where(
    where: Where, data: JsonObject, *, time_us: int, session: str, event_id: str | None
) -> Evaluation:
    """How ``where`` ends for an event, and why. It compiles anew: ``matches`` is for the path of events."""
    node = parse(where.text)
    variables = [time_us, session, event_id, *[None] * elements_at_once(node)]
    run: Run = [0, 0, *variables]
    answer, text = _ended(node, data, run)
    if answer is Answer.FALSE and isinstance(node, Logic) and node.operator == "&&":
        for member, (begin, end) in zip(node.members, node.spans, strict=True):
            if _ended(member, data, [0, 0, *variables])[0] is Answer.FALSE:
                text = f"{where.text[begin:end]} is false"
                break
    return Evaluation(answer=answer, text=text, steps=run[STEPS], work=run[DONE])


def _ended(node: Node, data: JsonObject, run: Run) -> tuple[Answer, str]:
    try:
        value = compile_node(node)(data, run)
    except OverWorkError:
        return (
            Answer.OVER_BUDGET,
            f"takes more than {WORK:,} operations for the elements of `exists` and `all`",
        )
    except OverBudgetError:
        return Answer.OVER_BUDGET, f"takes more than {BUDGET:,} steps"
    except EvaluationError as error:
        return Answer.ERROR, str(error)
    if value is True:
        return Answer.TRUE, "is true"
    if value is False:
        return Answer.FALSE, "is false"
    return Answer.NO_BOOLEAN, f"gives {kind(value)}, not true or false"


def lasting_answer(where: Where) -> bool | None:
    """True if ``where`` matches every event and False if it matches none, as far as the text alone shows.

    None if the answer depends on the event.
    """
    return _lasting(parse(where.text))


def _lasting(node: Node) -> bool | None:
    if not _reads_event(node):
        run = [0, 0, 0, "", None, *[None] * elements_at_once(node)]
        return _ended(node, {}, run)[0] is Answer.TRUE
    match node:
        case Logic(operator=sign, members=members):
            answers = {_lasting(member) for member in members}
            decides = sign == "||"
            return decides if decides in answers else not decides if answers == {not decides} else None
        case Choice(yes=yes, no=no):
            return False if _lasting(yes) is False and _lasting(no) is False else None
        case _:
            return False if _is_no_boolean(node) else None


def _reads_event(node: Node) -> bool:
    """True if one of the four variables stands in ``node``."""
    return isinstance(node, Name) or any(map(_reads_event, children(node)))


_ARITHMETIC = frozenset("+-*/%")


def _is_no_boolean(node: Node) -> bool:
    """True if ``node``, which reads the event, can only give a number, a string, a list or a time."""
    match node:
        case Items():
            return True
        case Unary(operator=sign):
            return sign == "-"
        case Chain(rest=rest):
            return rest[-1][0] in _ARITHMETIC
        case Call(function=function):
            return function in FUNCTIONS or function in TIME_METHODS
        case _:
            return False
