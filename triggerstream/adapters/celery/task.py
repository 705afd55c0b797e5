"""`TriggerTask`: an optional base class for tasks, with the command's context as an attribute."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from celery import Task

from triggerstream.adapters.celery.context import CommandContext, current
from triggerstream.core.errors import UsageError


class TriggerTask(Task[Any, Any]):
    """A Celery task with :attr:`context`. Its ``run`` is passed the triggers it names as parameters.

    All of them are in ``self.context.trigger_kwargs``, so ``run(self)`` is enough::

        @app.task(base=TriggerTask, bind=True, max_retries=2)
        def report(self):
            if not self.context.trigger_kwargs["module1Received"].get("score"):
                self.context.skip({"why": "no score"})
    """

    abstract = True

    @property
    def context(self) -> CommandContext:
        """The command that is running.

        Raises:
            UsageError: triggerstream did not start this task.
        """
        context = current()
        if context is None:
            raise UsageError(f"{self.name} has no context here: triggerstream did not start it")
        return context


def accepted_kwargs(run: Callable[..., object]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A function that leaves of keyword arguments those that ``run`` can be passed."""
    parameters = inspect.signature(run).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return dict
    names = {
        p.name
        for p in parameters
        if p.kind in {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    }
    return lambda kwargs: {name: value for name, value in kwargs.items() if name in names}
