"""Tasks files inside a list of events: the value of ``apply``, checked like a file of its own."""

from __future__ import annotations

from dataclasses import dataclass

from triggerstream.core.errors import ConfigError, DecodeError
from triggerstream.core.tasks import Configuration
from triggerstream.wire.event_lines import SourceLocation
from triggerstream.wire.json import kind_of
from triggerstream.wire.tasksfile import check, read
from triggerstream.wire.tasksfile.jsonc import parse
from triggerstream.wire.tasksfile.tree import Array, Document, Object, Scalar, Value, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedText:
    """The text of a tasks file, and where it begins.

    ``quoted``: it is the value of a JSON string, so that its lines are not those of the list.
    """

    text: str
    place: SourceLocation
    quoted: bool = False


def find_applied(text: bytes, place: SourceLocation) -> AppliedText:
    """The tasks file in ``{"apply": …}``, a JSON object which begins at ``place``.

    Raises:
        DecodeError: it is neither an object nor a text, with its place.
    """
    document = parse(text)
    root = document.root
    members = root.members if isinstance(root, Object) else []
    found = next(member.value for member in reversed(members) if member.key == "apply")
    line, column = document.position(found.at)
    return applied_text(document, found, place.moved(line=line, column=column))


def applied_text(document: Document, value: Value, place: SourceLocation) -> AppliedText:
    """The tasks file that ``value`` is.

    Raises:
        DecodeError: it is neither an object nor a text, with its place.
    """
    match value:
        case Object(at=at, end=end):
            return AppliedText(text=document.text[at : end + 1], place=place)
        case Scalar(value=str(text)):
            return AppliedText(text=text, place=place, quoted=True)
        case Array() | Scalar():
            raise DecodeError(
                f"{place}: /apply: must be a tasks file, an object of task name → task or its text, is "
                f"{kind_of(plain(value))}"
            )


def read_applied(applied: AppliedText, *, was_in_force: bool = False) -> Configuration:
    """The configuration of a tasks file that is to be applied, or that an engine has applied.

    Raises:
        DecodeError: it has an error, with its place. A file that was in force has fewer.
    """
    if was_in_force:
        try:
            return read(applied.text, name="`apply`")
        except ConfigError:
            pass  # the same errors, and their places, below
    config, findings = check(applied.text, name="`apply`")
    if config is not None:
        return config
    errors = [finding for finding in findings if finding.severity == "error"]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if applied.quoted or applied.place.line is None:
        raise DecodeError(f"{applied.place}: /apply: {first}{more}")
    place = applied.place.moved(line=first.line, column=first.column)
    raise DecodeError(f"{place}: /apply{first.path}: {first.message}{more}")
