"""Choose how many examples hypothesis tries: `HYPOTHESIS_PROFILE` is `quick`, `default` or `full`."""

import os

from hypothesis import settings

# No deadline: the first example pays for imports, and a loaded machine is not a bug.
settings.register_profile("quick", max_examples=10, deadline=None)
settings.register_profile("default", max_examples=300, deadline=None)
settings.register_profile("full", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

pytest_plugins = ["tests.support.kafka.fixtures"]
