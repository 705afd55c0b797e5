"""Puts a fault into the fold: a function of it is replaced while a block runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias
from unittest import mock

Function: TypeAlias = Callable[..., Any]
Make: TypeAlias = Callable[[Function], Function]
"""Makes the wrong function of the right one."""
Place: TypeAlias = tuple[type | ModuleType, str]
"""A method of a class or a function of a module, by name."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault: its name, the wrong behaviour in words, and what is replaced by what."""

    name: str
    says: str
    replacements: tuple[tuple[Place, Make], ...]

    @property
    def owners(self) -> set[type | ModuleType]:
        """The classes and modules in which something is replaced."""
        return {owner for (owner, _), _ in self.replacements}


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The fold with a fault, while the block runs."""
    with ExitStack() as stack:
        for (owner, name), make in fault.replacements:
            original = vars(owner)[name]
            wrong = make(original)
            if isinstance(owner, type):
                stack.enter_context(mock.patch.object(owner, name, wrong))
                continue
            for module in list(sys.modules.values()):
                # A function that another module has imported is in that module, too.
                if module.__name__.startswith("triggerstream.") and vars(module).get(name) is original:
                    stack.enter_context(mock.patch.object(module, name, wrong))
        yield


def replaces(*places: Place) -> Callable[[Make], Fault]:
    """A decorator: the function makes the wrong version of what stands at each of ``places``."""

    def fault(make: Make) -> Fault:
        return Fault(
            name=make.__name__,
            says=(make.__doc__ or "").strip(),
            replacements=tuple((place, make) for place in places),
        )

    return fault


def beside(fault: Fault, place: Place, make: Make) -> Fault:
    """The fault with one more replacement."""
    return Fault(name=fault.name, says=fault.says, replacements=(*fault.replacements, (place, make)))
