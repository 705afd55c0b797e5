"""Choose how many examples hypothesis tries: `HYPOTHESIS_PROFILE` is `quick`, `default` or `full`.

`mutants` is for `make mutants`: the same few examples each time, and no search for a shorter one that fails.
"""

import os

import pytest
from hypothesis import Phase, settings

from tests.support.environment import forget_settings, heed_interrupts, keep_bytecode, trust_no_authority
from tests.support.order import mixed

# No deadline: the first example pays for imports, and a loaded machine is not a bug.
settings.register_profile("quick", max_examples=10, deadline=None)
settings.register_profile("default", max_examples=100, deadline=None)
settings.register_profile("full", max_examples=10_000, deadline=None)
settings.register_profile(
    "mutants",
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

forget_settings(os.environ)
heed_interrupts()
keep_bytecode(os.environ)
trust_no_authority(os.environ)

pytest_plugins = ["tests.support.cpu_by_file", "tests.support.kafka.fixtures"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a run of several processes, mix files that wait with files that calculate."""
    if hasattr(config, "workerinput"):
        items[:] = mixed(items)
