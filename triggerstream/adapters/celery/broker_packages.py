"""Checks that the package of a Celery broker is installed.

Without it kombu raises an ``AttributeError`` or an ``ImportError``, at the first use, that names no package
of ours.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

from triggerstream.core import advice
from triggerstream.core.errors import UsageError

_PACKAGES = MappingProxyType(
    {
        **dict.fromkeys(("redis", "rediss", "sentinel", "valkey", "valkeys"), "redis"),
        **dict.fromkeys(("sqla", "sqlalchemy"), "sqlalchemy"),
    }
)
"""The package that a broker's scheme needs, if an extra brings it."""


def check_transport(url: str | None) -> None:
    """Check that the package for the broker at ``url`` can be imported; None: no URL is known.

    Raises:
        UsageError: it cannot; the message names the extra that brings it.
    """
    scheme = (url or "").partition("://")[0].partition("+")[0].lower()
    package = _PACKAGES.get(scheme)
    extra = advice.extra_of(package)
    if package is None or extra is None:
        return
    try:
        import_module(package)
    except ModuleNotFoundError as exc:
        repair = advice.install_extra(extra)
        raise UsageError(
            f"a Celery broker at {scheme}:// needs the package {package}: {repair} brings it"
        ) from exc
