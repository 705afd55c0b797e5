"""Effects of events as a timeline stores them, and their texts (docs/semantics.md, R2.5, R7.2)."""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from triggerstream.core.effects import Applied, Effect, Ignored, Nothing, Refused
from triggerstream.core.sizes import SHORT_TEXT, cut_text
from triggerstream.core.state import NoEffect, StoredEffect


def with_remarks(effect: Effect, remarks: list[str]) -> Effect:
    """``effect`` with sentences about what a bound prevented."""
    match effect:
        case Refused() | Ignored():
            return replace(effect, says="; ".join([effect.says, *remarks]))
        case Applied(says=str(says)):
            return Applied("; ".join([says, *remarks]))
        case Applied() | Nothing():
            return Applied("; ".join(remarks))
        case _ as never:
            assert_never(never)


def stored_effect(effect: Applied | Refused | Ignored) -> StoredEffect:
    """The effect in the form that the timeline stores."""
    match effect:
        case Applied():
            return None if effect.says is None else _short(effect.says)
        case Refused():
            return NoEffect.REFUSED, effect.why, _short(effect.says)
        case Ignored():
            return NoEffect.IGNORED, effect.why, _short(effect.says)
        case _ as never:
            assert_never(never)


def _short(text: str) -> str:
    return text if len(text) <= SHORT_TEXT else cut_text(text)


def note_applied(what: str, note: str | None) -> Applied:
    """The effect of an order, with the text that it brought."""
    return Applied(f"{what}: {note}" if note else what)


def join_reason_and_author(reason: str | None, by: str | None) -> str | None:
    """An order's reason and author as one text (R7.2)."""
    reason = None if reason is None else cut_text(reason)
    if reason and by:
        return cut_text(f"{reason} ({by})")
    return reason or (cut_text(f"by {by}") if by else None)
