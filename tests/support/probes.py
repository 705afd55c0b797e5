"""The answers of a process on its port for probes."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import eventually
from triggerstream.web.families import PREFIX

_SAID = re.compile(r"probes and metrics: (http://\S+)")


def answer(url: str) -> tuple[int, str]:
    """The status and the text."""
    try:
        with urlopen(url, timeout=60) as found:  # noqa: S310 - a URL of the test's own
            return found.status, found.read().decode()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def samples(url: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by name and labels' values; ours only, without the prefix."""
    return {
        (sample.name.removeprefix(PREFIX), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer(f"{url}/metrics")[1])
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


class Probes:
    """The probes of a process that says where they are."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    async def of(cls, text: Callable[[], str]) -> Probes:
        """Those of the process that prints ``text``, once they answer."""
        match = await eventually(lambda: _SAID.search(text()), what=text)
        return cls(match[1])

    def now(self) -> tuple[int, int, int]:
        """The statuses of ``/livez``, ``/startedz`` and ``/readyz``."""
        live, started, ready = (answer(f"{self.url}/{name}")[0] for name in ("livez", "startedz", "readyz"))
        return live, started, ready

    async def become(self, live: int, started: int, ready: int, *, because: str = "") -> None:
        """Wait until they answer so, and until one of them says ``because``."""

        def as_wanted() -> bool:
            said = answer(f"{self.url}/livez")[1] + answer(f"{self.url}/readyz")[1]
            return because in said and self.now() == (live, started, ready)

        await eventually(as_wanted, what=self.answers)

    def answers(self) -> str:
        """The text of each answer."""
        return ", ".join(
            f"/{name}: {answer(f'{self.url}/{name}')}" for name in ("livez", "startedz", "readyz")
        )

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """As :func:`samples`."""
        return samples(self.url)
