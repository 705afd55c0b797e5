"""Merges kwargs from a tasks file with those of events (docs/semantics.md, R5.4)."""

from __future__ import annotations

from triggerstream.core.ids import Json, JsonObject


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


def merge_under_each(under: Json, over: Json, *, members: bool) -> Json:
    """Merge ``under`` beneath each element of a list; with ``members`` also beneath those of an object."""
    if isinstance(over, list):
        return [_merge_value(under, one) for one in over]
    if members and isinstance(over, dict):
        return {key: _merge_value(under, one) for key, one in over.items()}
    return over


def _merge_value(under: Json, over: Json) -> Json:
    return deep_merge(under, over) if isinstance(under, dict) and isinstance(over, dict) else over
