"""A bare lab host for tests that need a real systemd, engine and kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import testhost


@pytest.fixture(scope="module")
def lab_host() -> Iterator[testhost.LabHost]:
    """One host for each file, so that none meets what another left; within a file a test undoes what it does."""
    with testhost.fresh() as host:
        yield host
