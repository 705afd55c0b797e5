"""Expressions of a leaf's ``where``: a part of CEL (https://cel.dev), evaluated with a budget of steps.

tokens, parser, hints  text to a tree, or an error that says what would be right
tree                   the tree, and the names that the language knows
values                 values, errors, steps
operators, functions   what they do with values, and what that costs
timestamps             timestamps and durations
closures               the tree to Python closures
comparisons            comparisons of two types, which no event fulfils
evaluation             a compiled expression, and what happened in one evaluation

The rules are in docs/semantics.md, section 13; they are part of ``FOLD_VERSION``.
"""

from triggerstream.core.where.comparisons import comparison_of_two_types
from triggerstream.core.where.evaluation import (
    Answer,
    Evaluation,
    Where,
    compile_where,
    evaluate_where,
    lasting_answer,
)
from triggerstream.core.where.fields import missing_field
from triggerstream.core.where.parser import WhereError

__all__ = [
    "Answer",
    "Evaluation",
    "Where",
    "WhereError",
    "comparison_of_two_types",
    "compile_where",
    "evaluate_where",
    "lasting_answer",
    "missing_field",
]
