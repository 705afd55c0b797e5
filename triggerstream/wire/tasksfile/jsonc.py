"""Reader of JSON with ``//`` and ``/* */`` comments and trailing commas, with the position of every value.

Libraries stop at the first mistake or forget the positions of values. This reader continues after a mistake,
so that a person who edits a file by hand sees all mistakes at once.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from itertools import pairwise
from typing import Final

from triggerstream.core.errors import Finding
from triggerstream.wire.bounds import JSON_DEPTH
from triggerstream.wire.tasksfile.lexemes import (
    BROKEN,
    CLOSERS,
    NUMBER_START,
    WORD_START,
    ScalarValue,
    describe,
    read_key_word,
    read_number,
    read_string,
    read_word,
)
from triggerstream.wire.tasksfile.tree import Array, Document, Member, Object, Path, Scalar, Value, pointer
from triggerstream.wire.tasksfile.unclosed import closed_too_early, left_open

MAX_FINDINGS: Final = 1_000
"""Number of mistakes at which reading stops: such a file is not JSON."""


def parse(text: str | bytes) -> Document:
    """Read ``text``. The document's findings have all errors, in the order of the file."""
    return _Parser(text).run()


_SPACE = re.compile(r"(?:[ \t\n\r]+|//[^\n\r]*|/\*[\s\S]*?\*/)*")
_KEY = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:')
_STRING = re.compile(r'"([^"\\\x00-\x1f]*)"')
_STRAY = re.compile(r"[^\S \t\n\r]+|[\w.+$-]+|[^\s\w\[\]{},:\"'/$.+-]+|[\s\S]")
_REST_OF_LINE = re.compile(r"[^\n\r]*")
_BRACKETS = re.compile(r'"(?:[^"\\\n\r]|\\.)*+"?|//[^\n\r]*|/\*(?:[\s\S]*?\*/|[\s\S]*)|[\[\]{}]')
_YAML = re.compile(
    r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*(?P<begin>---[ \t]*(?:\r?\n|$)|(?P<key>[\w$][\w$.-]*):(?:\s|$))"
)
"""A file that begins as YAML does: `---`, or a key without quotes, after comments with `#`."""
_SURROGATES = re.compile("[\ud800-\udfff]+")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class _State(Enum):
    """The kind of token that is expected next. A value may close a list (ITEM), a key an object (KEY)."""

    VALUE = auto()
    ITEM = auto()
    KEY = auto()
    COLON = auto()
    AFTER = auto()


class _TooManyError(Exception):
    """There are too many findings to read."""


class _Parser:
    """Reads one text. A loop over states, never recursion, so that no text is too deep for it."""

    def __init__(self, text: str | bytes) -> None:
        self.stack: list[Object | Array] = []
        self.key: tuple[str, int] | None = None
        self.seen: list[dict[str, int]] = []
        self.state = _State.VALUE
        self.hurt = False
        """Text was passed over since the last separator, so that what follows from it is not reported."""
        self.patched = False
        self.last_end = 0
        if isinstance(text, bytes):
            self.document = Document(text.decode(errors="surrogateescape"))
            self.patch(from_bytes=True, utf16=text.startswith(_UTF16) or b"\x00" in text[:4])
        else:
            self.document = Document(text)
            self.patch(from_bytes=False, utf16=False)

    # Around the values

    def patch(self, *, from_bytes: bool, utf16: bool) -> None:
        """Report what is no Unicode text and put U+FFFD in its place, so that places stay what they are."""
        document = self.document
        if utf16:
            self.report(0, "invalid-utf8", "this looks like UTF-16: save the file as UTF-8")
            document.text = ""
            return
        try:
            document.text.encode()
        except UnicodeEncodeError:
            self.patched = True
        else:
            return
        for match in list(_SURROGATES.finditer(document.text))[: MAX_FINDINGS - 1]:
            if from_bytes:
                codes = " ".join(f"0x{ord(c) - 0xDC00:02X}" for c in match.group()[:4])
                self.report(match.start(), "invalid-utf8", f"not UTF-8 ({codes}): save the file as UTF-8")
            else:
                self.report(match.start(), "lone-surrogate", "half of a character: the other half is missing")
        document.text = _SURROGATES.sub(lambda m: "\ufffd" * len(m.group()), document.text)

    def run(self) -> Document:
        document = self.document
        try:
            if not document.findings or self.patched:
                self.read()
        except _TooManyError:
            for node in self.stack:
                node.whole = False
        document.findings.sort(key=lambda finding: (finding.line, finding.column))
        return document

    def report(self, at: int, code: str, message: str, path: Path | None = None) -> None:
        findings = self.document.findings
        line, column = self.document.position(at)
        full = len(findings) == MAX_FINDINGS - 1
        if full:
            code, message = "too-many-findings", "there are more; these are the first"
        place = pointer(self.path() if path is None else path)
        findings.append(
            Finding(severity="error", code=code, line=line, column=column, path=place, message=message)
        )
        if full:
            raise _TooManyError

    def path(self) -> Path:
        """The path from the root to the value that is read next."""
        parts: list[str | int] = []
        for node, child in pairwise([*self.stack, None]):
            match node:
                case Object(members=members):
                    if child is not None:
                        parts.append(members[-1].key)
                    elif self.key is not None:
                        parts.append(self.key[0])
                case Array(items=items):
                    if child is not None:
                        parts.append(len(items) - 1)
                    elif self.state is _State.ITEM:
                        parts.append(len(items))
                case None:
                    pass
        return tuple(parts)

    # The loop

    def read(self) -> None:
        text = self.document.text
        size = len(text)
        pos = 1 if text.startswith("\ufeff") else 0
        yaml = _YAML.match(text, pos)
        if yaml is not None:
            name = (yaml.group("key") or "t_report")[:40]
            sample = f'`{{"{name}": {{"after": ["…"], "run": "…"}}}}`'
            self.report(yaml.start("begin"), "yaml", f"this looks like YAML: a tasks file is JSON, {sample}")
            return
        space, key_match, string_match = _SPACE.match, _KEY.match, _STRING.match
        while True:
            pos = space(text, pos).end()  # type: ignore[union-attr]  # it matches the empty string
            if pos >= size:
                self.end()
                return
            char = text[pos]
            state = self.state
            if state is _State.AFTER:
                if self.stack:
                    pos = self.read_separator(char, pos)
                elif char == "#" or text.startswith("/*", pos) or (char == "\ufffd" and self.patched):
                    pos = self.pass_over(char, pos, "the end")
                else:
                    message = "nothing may follow the end of the value: is there a bracket too many?"
                    self.report(pos, "trailing-content", message)
                    self.damage()
                    return
            elif state is _State.KEY:
                match = key_match(text, pos)
                if match is not None:
                    self.begin_member(match.group(1), pos)
                    self.state = _State.VALUE
                    pos = match.end()
                else:
                    pos = self.read_key(char, pos)
            elif state is _State.COLON:
                pos = self.read_colon(char, pos)
            elif char == '"':
                match = string_match(text, pos)
                if match is not None:
                    self.attach(Scalar(pos, match.group(1)))
                    pos = self.last_end = match.end()
                else:
                    pos = self.read_value(char, pos)
            else:
                pos = self.read_value(char, pos)

    def end(self) -> None:
        """Report what is missing at the end of the text."""
        text = self.document.text
        if not self.stack:
            if self.state is not _State.AFTER and not self.hurt and not self.document.findings:
                self.report(0, "empty-file", "there is nothing here: the smallest tasks file is `{}`")
            return
        if self.state is _State.COLON or (self.state is _State.VALUE and self.key is not None):
            self.missing_value(len(text))
        if not self.hurt and not self.close_left_open_tasks():
            node = self.stack[-1]
            around = len(self.stack) - 1
            more = f", nor {'is the one' if around == 1 else f'are the {around}'} around it" if around else ""
            self.key = None
            self.report(node.at, "unclosed-bracket", f"`{text[node.at]}` is never closed{more}")
        for node in self.stack:
            node.whole = False

    def close_left_open_tasks(self) -> bool:
        """Close each task that was left open before the next one begins; True if nothing else is open."""
        root = self.stack[0]
        open_brackets = len(self.stack)
        while open_brackets and isinstance(root, Object) and (found := left_open(root)) is not None:
            task, node, place = found
            following = node.members[place]
            self.report(
                node.at,
                "unclosed-bracket",
                f"the `{{` of `{task.key[:40]}` is never closed: `{following.key[:40]}` at "
                f"{self.document.where(following.at)} begins inside of it",
                path=(task.key,),
            )
            root.members.extend(node.members[place:])
            del node.members[place:]
            open_brackets -= 1
        last = closed_too_early(root, self.document) if isinstance(root, Object) and open_brackets else None
        if last is not None and isinstance(last.value, Object):
            self.report(
                last.value.at,
                "unclosed-bracket",
                f"the `{{` of `{last.key[:40]}` is never closed: the `}}` at "
                f"{self.document.where(last.value.end)} stands where the file's own does",
                path=(last.key,),
            )
            open_brackets -= 1
        return open_brackets < len(self.stack)

    # Values

    def read_value(self, char: str, pos: int) -> int:
        text = self.document.text
        if char in "{[":
            return self.open(char, pos)
        value: ScalarValue
        closed = True
        if char in CLOSERS:
            value, end, closed = read_string(text, pos, self.report)
        elif NUMBER_START.match(text, pos):
            value, end = read_number(text, pos, self.report)
        elif WORD_START.match(text, pos):
            value, end = read_word(text, pos, self.report)
        else:
            return self.no_value(char, pos)
        self.attach(Scalar(pos, value))
        self.hurt = self.hurt or not closed
        self.last_end = end
        return end

    def no_value(self, char: str, pos: int) -> int:
        """Report that a value was expected, and ``char`` does not begin one."""
        if self.state is _State.ITEM:
            if char == "]":
                return self.close(pos)
            if char == ",":
                self.report(pos, "extra-comma", "there is a `,` too many: no value stands before it")
                return pos + 1
            if char == "}":
                return self.close_other(char, pos)
        elif self.key is not None and char in ",}]":
            self.missing_value(pos)
            return pos
        return self.pass_over(char, pos, "a value")

    def missing_value(self, pos: int) -> None:
        if not self.hurt and self.key is not None:
            self.report(pos, "missing-value", f"`{self.key[0][:40]}` has no value")
        self.attach(Scalar(pos, BROKEN))

    def attach(self, value: Value) -> None:
        """Add a value under the pending key, at the end of the list, or as the root."""
        self.state = _State.AFTER
        if not self.stack:
            self.document.root = value
            return
        node = self.stack[-1]
        if isinstance(node, Array):
            node.items.append(value)
        elif self.key is not None:
            key, at = self.key
            node.members.append(Member(at, key, value))
            self.key = None

    def open(self, char: str, pos: int) -> int:
        if len(self.stack) == JSON_DEPTH:
            self.report(pos, "too-deep", f"values may be nested {JSON_DEPTH} deep at most")
            self.attach(Scalar(pos, BROKEN))
            end = self.last_end = self.skip_bracket(pos)
            return end
        node: Object | Array = Object(pos) if char == "{" else Array(pos)
        self.attach(node)
        self.stack.append(node)
        self.seen.append({})
        self.state = _State.KEY if char == "{" else _State.ITEM
        self.hurt = False
        return pos + 1

    def skip_bracket(self, pos: int) -> int:
        """The position after the bracket that closes the one at ``pos``, or the end of the text."""
        depth = 0
        for match in _BRACKETS.finditer(self.document.text, pos):
            bracket = match.group()
            depth += (bracket in "{[") - (bracket in "}]")
            if depth == 0:
                return match.end()
        self.hurt = True
        return len(self.document.text)

    # Keys

    def read_key(self, char: str, pos: int) -> int:
        text = self.document.text
        if char == "}":
            return self.close(pos)
        if char in CLOSERS:
            key, end, closed = read_string(text, pos, self.report)
            self.hurt = self.hurt or not closed
        elif WORD_START.match(text, pos) or char.isdecimal():
            key, end = read_key_word(text, pos, self.report)
        elif char == ",":
            self.report(pos, "extra-comma", "there is a `,` too many: no value stands before it")
            return pos + 1
        elif char == "]":
            return self.close_other(char, pos)
        elif char in "{[":
            self.report(pos, "value-without-key", f"`{char}` begins a value, but a key is due here")
            self.stack[-1].whole = False
            self.state = _State.AFTER
            end = self.last_end = self.skip_bracket(pos)
            return end
        else:
            return self.pass_over(char, pos, "a key")
        self.begin_member(key, pos)
        self.last_end = end
        self.state = _State.COLON
        return end

    def begin_member(self, key: str, at: int) -> None:
        self.key = (key, at)
        first = self.seen[-1].setdefault(key, at)
        if first != at:
            where = self.document.where(first)
            self.report(at, "duplicate-key", f"`{key[:40]}` stands twice in this object, first at {where}")

    def read_colon(self, char: str, pos: int) -> int:
        text = self.document.text
        if char == ":":
            self.state = _State.VALUE
            return pos + 1
        if char in ",}]":
            self.missing_value(pos)
            return pos
        if char == "=":
            self.report(pos, "missing-colon", "a key is followed by `:`")
            self.state = _State.VALUE
            return pos + (2 if text.startswith("=>", pos) else 1)
        if char in "{[" or char in CLOSERS or NUMBER_START.match(text, pos) or WORD_START.match(text, pos):
            if not self.hurt and self.key is not None:
                self.report(pos, "missing-colon", f"`:` is missing after `{self.key[0][:40]}`")
            self.state = _State.VALUE
            return pos
        return self.pass_over(char, pos, "`:`")

    # Between the values

    def read_separator(self, char: str, pos: int) -> int:
        text = self.document.text
        node = self.stack[-1]
        in_array = isinstance(node, Array)
        if char == ",":
            self.state = _State.ITEM if in_array else _State.KEY
            self.hurt = False
            return pos + 1
        if char == ("]" if in_array else "}"):
            return self.close(pos)
        if char in "]}":
            return self.close_other(char, pos)
        begins = char in CLOSERS or WORD_START.match(text, pos) is not None
        if in_array:
            begins = begins or char in "{[" or NUMBER_START.match(text, pos) is not None
        if begins:
            if not self.hurt:
                where = self.document.where(self.last_end)
                self.report(pos, "missing-comma", f"`,` is missing: the value before ends at {where}")
            self.state = _State.ITEM if in_array else _State.KEY
            return pos
        if char == ":" and isinstance(node, Array):
            if self.take_as_key(node):
                return pos
            self.report(pos, "stray-token", "a list has no keys: `:` belongs between `{` and `}`")
        elif char in "{[":
            self.report(pos, "stray-token", f"`{char}` follows a value without `,` and key")
            node.whole = False
            end = self.last_end = self.skip_bracket(pos)
            return end
        else:
            return self.pass_over(char, pos, "`,` or a closing bracket")
        node.whole = False
        self.hurt = True
        return pos + 1

    def take_as_key(self, node: Array) -> bool:
        """Report a list without `]`: the string before a `:` is the next key of the object around it."""
        around = self.stack[-2] if len(self.stack) > 1 else None
        key = node.items[-1] if len(node.items) > 1 else None
        if not isinstance(around, Object) or not isinstance(key, Scalar) or not isinstance(key.value, str):
            return False
        where = self.document.where(node.at)
        message = f"`]` is missing before this key: the `[` at {where} is not closed"
        self.report(key.at, "unclosed-bracket", message)
        node.items.pop()
        node.whole = False
        self.stack.pop()
        self.seen.pop()
        self.begin_member(key.value, key.at)
        self.state = _State.COLON
        return True

    def close(self, pos: int) -> int:
        node = self.stack.pop()
        if isinstance(node, Object):
            node.end = pos
        self.seen.pop()
        self.key = None
        self.state = _State.AFTER
        self.hurt = False
        self.last_end = pos + 1
        return pos + 1

    def close_other(self, char: str, pos: int) -> int:
        """``char`` does not close the innermost bracket: perhaps one further out, else it is one too many."""
        kind = Array if char == "]" else Object
        depth = next((i for i in range(len(self.stack) - 1, -1, -1) if isinstance(self.stack[i], kind)), None)
        inner = self.stack[-1]
        opener, where = self.document.text[inner.at], self.document.where(inner.at)
        missing = "]" if opener == "[" else "}"
        if depth is None:
            message = f"`{char}` closes nothing here: the `{opener}` at {where} needs `{missing}`"
            self.report(pos, "stray-token", message)
            inner.whole = False
            self.hurt = True
            return pos + 1
        if not self.hurt:
            message = f"`{missing}` is missing before `{char}`: the `{opener}` at {where} is not closed"
            self.report(pos, "unclosed-bracket", message)
        for node in self.stack[depth + 1 :]:
            node.whole = False
        del self.stack[depth + 1 :], self.seen[depth + 1 :]
        return self.close(pos)

    def pass_over(self, char: str, pos: int, due: str) -> int:
        """Report that ``due`` was expected, and skip the text found in its place."""
        text = self.document.text
        if char == "/" and text.startswith("/*", pos):
            self.report(pos, "unterminated-comment", "this comment is never closed: its `*/` is missing")
            end = len(text)
        elif char == "#":
            self.report(pos, "stray-token", "comments begin with `//`, not with `#`")
            end = _end(_REST_OF_LINE, text, pos)
        elif char == "\ufffd" and self.patched:
            end = pos + 1  # already reported
        else:
            self.report(pos, "stray-token", f"{describe(char)} means nothing here: {due} is due")
            end = _end(_STRAY, text, pos)
        self.damage()
        return end

    def damage(self) -> None:
        self.hurt = True
        for node in self.stack[-1:]:
            node.whole = False
        root = self.document.root
        if not self.stack and isinstance(root, Object | Array):
            root.whole = False


def _end(pattern: re.Pattern[str], text: str, pos: int) -> int:
    match = pattern.match(text, pos)
    return match.end() if match is not None else pos + 1
