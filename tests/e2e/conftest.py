"""Hosts of their own for tests that deploy, interrupt or break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import testhost


@pytest.fixture(scope="module")
def fresh_host() -> Iterator[testhost.LabHost]:
    """A bare host for the tests of one file."""
    with testhost.fresh() as host:
        yield host


@pytest.fixture(scope="module")
def deployed_host(fresh_host: testhost.LabHost) -> testhost.LabHost:
    """The same host with site.yml deployed."""
    fresh_host.play("playbooks/site.yml")
    return fresh_host
