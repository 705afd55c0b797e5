"""Syntax tree of an expression to Python closures.

Each closure takes an event's data and the run (``values.Run``). Comparing a field of data with a constant
has closures of its own: most expressions do nothing else, and they run for every event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.where.fields import (
    Place,
    data_path,
    has_field,
    indexed_path,
    named_path,
    names_of,
    text_of,
)
from triggerstream.core.where.functions import CONVERSIONS, compare_text
from triggerstream.core.where.operators import (
    ORDERS,
    Operator,
    inverted,
    negated,
    not_boolean,
    not_comparable,
    operator_of,
)
from triggerstream.core.where.timestamps import event_time, part_of_time
from triggerstream.core.where.tree import (
    TEXT_METHODS,
    TIME_METHODS,
    Call,
    Chain,
    Choice,
    Constant,
    Element,
    Has,
    Items,
    Logic,
    Name,
    Node,
    Path,
    Quantifier,
    Unary,
    operations,
)
from triggerstream.core.where.values import (
    BUDGET,
    COVERED,
    DONE,
    ELEMENTS,
    ID,
    PIECE,
    SESSION,
    STEPS,
    TIME_US,
    WORK,
    Evaluate,
    EvaluationError,
    OverBudgetError,
    OverWorkError,
    Run,
    Value,
    charge,
    kind,
    pieces,
    take,
)


def compile_node(node: Node) -> Evaluate:
    """The closure that evaluates ``node``."""
    match node:
        case Constant(value=value):
            return lambda data, run: value  # noqa: ARG005 - the arguments of every closure
        case Name(name=name):
            return _VARIABLES[name]
        case Element(level=level):
            place = ELEMENTS + level
            return lambda data, run: run[place]  # noqa: ARG005 - the arguments of every closure
        case Path():
            return _path(node)
        case Has(of=of, name=name):
            return has_field(compile_node(of), name, text_of(of))
        case Items(members=members):
            return _items(members)
        case Unary(operator=sign, of=of):
            return _unary(sign, compile_node(of))
        case Chain(first=first, rest=((sign, second),)):
            return _binary(sign, first, second)
        case Chain(first=first, rest=rest):
            operands = tuple((operator_of(sign), compile_node(operand)) for sign, operand in rest)
            return _chain(compile_node(first), operands)
        case Logic(operator=sign, members=members):
            return _logic(sign, tuple(map(compile_node, members)))
        case Choice(condition=condition, yes=yes, no=no):
            return _choice(compile_node(condition), compile_node(yes), compile_node(no))
        case Call(function=function, arguments=arguments):
            return _call(function, tuple(map(compile_node, arguments)))
        case Quantifier(kind=quantifier, source=source, level=level, body=body):
            place, work = ELEMENTS + level, operations(body)
            return _quantifier(quantifier, compile_node(source), place, compile_node(body), work)
        case _ as never:
            assert_never(never)


_VARIABLES: Mapping[str, Evaluate] = {
    "data": lambda data, run: data,  # noqa: ARG005 - the arguments of every closure
    "time": lambda data, run: event_time(run[TIME_US]),  # noqa: ARG005 - likewise
    "session": lambda data, run: run[SESSION],  # noqa: ARG005 - likewise
    "id": lambda data, run: run[ID],  # noqa: ARG005 - likewise
}


def _path(node: Path) -> Evaluate:
    """The closure of a path: the fewer kinds of steps it has, the faster."""
    base_text = text_of(node.base)
    names = names_of(node.steps)
    if names is not None and node.base == Name("data"):
        return data_path(names)
    base = compile_node(node.base)
    if names is not None:
        return named_path(base, names, base_text)
    steps = tuple(compile_node(Constant(step) if isinstance(step, str) else step) for step in node.steps)
    return indexed_path(base, steps, Place(base_text, node.steps))


def _items(members: tuple[Node, ...]) -> Evaluate:
    constants = _constants(members)
    if constants is not None:
        return lambda data, run: constants  # noqa: ARG005 - the arguments of every closure; nothing changes a list
    parts = tuple(map(compile_node, members))
    return lambda data, run: [part(data, run) for part in parts]


def _constants(members: tuple[Node, ...]) -> list[Json] | None:
    values: list[Json] = []
    for member in members:
        if not isinstance(member, Constant):
            return None
        values.append(member.value)
    return values


# ---- operators ------------------------------------------------------------------------------------


def _unary(sign: str, of: Evaluate) -> Evaluate:
    apply = inverted if sign == "!" else negated
    return lambda data, run: apply(of(data, run), run)


def _chain(first: Evaluate, rest: tuple[tuple[Operator, Evaluate], ...]) -> Evaluate:
    def chain(data: JsonObject, run: Run) -> Value:
        value: Value = first(data, run)
        for apply, operand in rest:
            value = apply(value, operand(data, run), run)
        return value

    return chain


def _binary(sign: str, left: Node, right: Node) -> Evaluate:
    """One operator. The common ones with a constant on the right are specialised."""
    one = compile_node(left)
    match sign, right:
        case "==" | "!=", Constant(value=value):
            return _equals_constant(one, value, wanted=sign == "==")
        case "<" | "<=" | ">" | ">=", Constant(value=int() | float() as value) if type(value) is not bool:
            return _ordered_number(sign, one, value)
        case "in", Items(members=members) if (strings := _strings(members)) is not None:
            return _in_strings(one, strings)
    apply, other = operator_of(sign), compile_node(right)
    return lambda data, run: apply(one(data, run), other(data, run), run)


def _equals_constant(one: Evaluate, constant: Json, *, wanted: bool) -> Evaluate:
    """``one == constant``, and with ``wanted`` false ``one != constant``."""
    if type(constant) is str:
        return _equals_string(one, constant, wanted=wanted)
    numeric = constant is not None and type(constant) is not bool

    def equals_constant(data: JsonObject, run: Run) -> bool:
        value = one(data, run)
        kind_of_value = type(value)
        if kind_of_value is int or kind_of_value is float:
            return (numeric and value == constant) is wanted
        if kind_of_value is str:
            charge(run, (len(value) + PIECE - 1) // PIECE)
        return (value is constant) is wanted

    return equals_constant


def _equals_string(one: Evaluate, constant: str, *, wanted: bool) -> Evaluate:
    cost = pieces(constant)

    def equals_string(data: JsonObject, run: Run) -> bool:
        value = one(data, run)
        if type(value) is str:
            run[STEPS] += cost + (len(value) + PIECE - 1) // PIECE
            if run[STEPS] > BUDGET:
                raise OverBudgetError
            return (value == constant) is wanted
        charge(run, cost)
        return not wanted

    return equals_string


def _ordered_number(sign: str, one: Evaluate, number: float) -> Evaluate:
    compare = ORDERS[sign]

    def ordered_number(data: JsonObject, run: Run) -> bool:
        value = one(data, run)
        kind_of_value = type(value)
        if kind_of_value is int or kind_of_value is float:
            return compare(value, number)
        take(run, value)
        raise EvaluationError(not_comparable, sign, value, number)

    return ordered_number


def _strings(members: tuple[Node, ...]) -> list[str] | None:
    values: list[str] = []
    for member in members:
        match member:
            case Constant(value=str(value)):
                values.append(value)
            case _:
                return None
    return values


def _in_strings(one: Evaluate, strings: list[str]) -> Evaluate:
    """``one in ["a", "b"]``: the list is looked through once, here, and not for every event."""
    looked_at: dict[str, int] = {}
    for place, text in enumerate(strings):
        looked_at.setdefault(text, place + 1)
    everything = len(strings)

    def in_strings(data: JsonObject, run: Run) -> bool:
        value = one(data, run)
        if type(value) is not str:
            charge(run, everything)
            return False
        found = looked_at.get(value)
        charge(run, (len(value) + PIECE - 1) // PIECE + (found or everything))
        return found is not None

    return in_strings


def _logic(sign: str, members: tuple[Evaluate, ...]) -> Evaluate:
    """``&&`` or ``||``: an error counts only if no member decides (docs/semantics.md, R13.8)."""
    decides = sign == "||"
    otherwise = not decides

    def logic(data: JsonObject, run: Run) -> bool:
        failed: EvaluationError | None = None
        for member in members:
            try:
                value: Value = member(data, run)
            except EvaluationError as error:
                failed = failed or error.with_traceback(None)
                continue
            if value is decides:
                return decides
            if value is not otherwise:
                wrong = not_boolean(sign, value, run)
                failed = failed or wrong
        if failed is not None:
            try:
                raise failed
            finally:
                del failed  # its traceback holds this frame: a cycle that only the collector would free
        return otherwise

    return logic


def _choice(condition: Evaluate, yes: Evaluate, no: Evaluate) -> Evaluate:
    def choice(data: JsonObject, run: Run) -> Value:
        chosen = condition(data, run)
        if chosen is True:
            value = yes(data, run)
        elif chosen is False:
            value = no(data, run)
        else:
            raise not_boolean("? :", chosen, run)
        take(run, value)
        return value  # type: ignore[no-any-return]  # a value of CEL

    return choice


def _call(function: str, arguments: tuple[Evaluate, ...]) -> Evaluate:
    first = arguments[0]
    if function in TIME_METHODS:
        return lambda data, run: part_of_time(function, first(data, run), run)
    if function in TEXT_METHODS:
        second = arguments[1]
        return lambda data, run: compare_text(function, first(data, run), second(data, run), run)
    convert = CONVERSIONS[function]
    return lambda data, run: convert(first(data, run), run)


def _quantifier(quantifier: str, source: Evaluate, place: int, body: Evaluate, work: int) -> Evaluate:
    """``exists`` is ``||`` of all elements, ``all`` is ``&&`` (docs/semantics.md, R13.14).

    ``work`` is how many operations ``body`` has.
    """
    decides = quantifier == "exists"
    otherwise = not decides
    if work > COVERED:
        body = _counting(body, work)

    def quantified(data: JsonObject, run: Run) -> bool:
        holder = source(data, run)
        if type(holder) is not list and type(holder) is not dict:
            take(run, holder)
            raise EvaluationError(_no_elements, quantifier, holder)
        failed: EvaluationError | None = None
        for element in holder:
            run[STEPS] += 1
            if run[STEPS] > BUDGET:
                raise OverBudgetError
            run[place] = element
            try:
                value: Value = body(data, run)
            except EvaluationError as error:
                failed = failed or error.with_traceback(None)
                continue
            if value is decides:
                return decides
            if value is not otherwise:
                wrong = not_boolean(quantifier, value, run)
                failed = failed or wrong
        if failed is not None:
            try:
                raise failed
            finally:
                del failed  # as in `logic`
        return otherwise

    return quantified


def _counting(body: Evaluate, work: int) -> Evaluate:
    """``body``, whose evaluations count (docs/semantics.md, R13.22). Most bodies are short and do not."""

    def counting(data: JsonObject, run: Run) -> Value:
        run[DONE] += work
        if run[DONE] > WORK:
            raise OverWorkError
        return body(data, run)  # type: ignore[no-any-return]  # a value of CEL

    return counting


def _no_elements(quantifier: str, holder: Value) -> str:
    return f"`{quantifier}` needs a list or an object, not {kind(holder)}"
