"""Opens what the reader refuses because the fold does not know it yet: only the gates' own tests see them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from triggerstream.wire.tasksfile import conditions, keys


@pytest.fixture(scope="package", autouse=True)
def every_construct() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "NOT_YET", frozenset())
        patch.setattr(keys, "NOT_YET_KEYS", frozenset())
        yield
