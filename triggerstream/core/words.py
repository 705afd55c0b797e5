"""The words in which an explained session is told, the same on a terminal and on a page."""

from __future__ import annotations

from typing import cast

from triggerstream.core.ids import Json, JsonObject

_NO_EVENT = "1970-01-01T00:00:00Z"
"""The clock of a session whose state was erased: no event has arrived since."""


def objects(value: Json) -> list[JsonObject]:
    """The objects of a list in an explained session; none where it has no such list."""
    return cast("list[JsonObject]", value or [])


def event(row: JsonObject) -> str:
    """A row of the timeline, without its time and kind."""
    if row["what"] == "decided":
        because = ", ".join(
            f"{cause['trigger']} (offset {cast('JsonObject', cause['by'])['offset']})"
            for cause in objects(row["because"])
        )
        return f"{row['instance']} runs {row['run']}, because of {because}"
    note = f": {row['note']}" if row.get("note") else ""
    return f"{row['type']}{note}"


def aside(instance: JsonObject) -> str:
    """What is to be said of an instance beyond its status."""
    says = str(instance["says"])
    return "" if says == instance["status"] else says


def unless(leaf: JsonObject, *, waiting: bool) -> str:
    """A trigger of ``unless``, for an instance that is ``waiting`` or no longer."""
    name = str(leaf["trigger"])
    if leaf["arrived"]:
        return f"unless {name}: arrived at offset {leaf['offset']}"
    return f"unless {name}: {'not arrived' if waiting else 'had not arrived'}"


def by(fields: Json) -> str:
    """The event that brought a trigger."""
    found = cast("JsonObject", fields)
    named = f", id {found['id']}" if "id" in found else ""
    source = f", from {found['source']}" if "source" in found else ""
    return f"offset {found['offset']}, {seconds(found['time'])}{named}{source}"


def seconds(instant: Json) -> str:
    """RFC 3339 text for people: whole seconds."""
    return "" if instant is None else str(instant).replace("T", " ").split(".")[0].removesuffix("Z") + "Z"


def last_event(instant: Json) -> str:
    """When the last event of a session arrived, for people: whole seconds, or that the session was erased."""
    return "erased" if instant in (None, _NO_EVENT) else seconds(instant)


def milliseconds(instant: Json) -> str:
    """RFC 3339 text for people who compare instants: milliseconds."""
    whole, _, fraction = str(instant).replace("T", " ").removesuffix("Z").partition(".")
    return f"{whole}.{fraction[:3].ljust(3, '0')}Z"
