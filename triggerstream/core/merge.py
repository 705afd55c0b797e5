"""Merges kwargs from a tasks file with those of events (docs/semantics.md, R5.4)."""

from __future__ import annotations

from triggerstream.core.ids import JsonObject


def deep_merge(under: JsonObject, over: JsonObject) -> JsonObject:
    """Merge ``over`` into ``under``: objects are merged key by key, any other value of ``over`` wins (R5.4).

    Neither argument is changed. Parts that are not merged are shared with the result.
    """
    if not under:
        return over
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = deep_merge(below, value)
        else:
            merged[key] = value
    return merged
