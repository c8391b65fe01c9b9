"""A label costs nothing, so none of them lengthens what somebody has; nor do all of them together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01.host.names import REQUEST_LABEL
from ds01.ledger import Ledger
from ds01.lifecycle.rules import Lawbook
from ds01.monitor.containers import container_type

HOUR = 3_600_000
LABELS = st.dictionaries(
    st.sampled_from(
        [REQUEST_LABEL, "devcontainer.local_folder", "com.docker.compose.project", "aime.mlc", "ds01.type", "a"]
    ),
    st.sampled_from(["", "true", "/home/alice", "managed", "devcontainer", "compose", "docker", "api", "unknown"]),
)
LIMIT = st.none() | st.integers(60, 10**6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=LABELS, managed=st.booleans(), types=st.fixed_dictionaries({
    kind: st.fixed_dictionaries({"idle_timeout": LIMIT, "max_runtime": LIMIT, "sigterm_grace": st.just(1)})
    for kind in ("devcontainer", "compose", "docker", "aime", "api", "unknown")
}))  # fmt: skip
def test_no_label_lengthens_a_limit(
    tables: dict[str, Any], ledger: Ledger, labels: dict[str, str], managed: bool, types: dict[str, Any]
) -> None:
    kind = container_type(labels | ({"ds01.managed": "true"} if managed else {}))
    with ledger.read() as view:
        book = Lawbook(tables | {"container_types": types}, view)
        alice, bob = book.rules("alice", kind), book.rules("bob", kind)
    assert alice.idle_timeout is not None
    assert alice.max_runtime is not None
    assert alice.idle_timeout <= 1 * HOUR
    assert alice.max_runtime <= 10 * HOUR
    # What somebody agreed to for one person holds, whatever the container is.
    assert bob.max_runtime == 20 * HOUR


@pytest.mark.parametrize(
    ("labels", "idle", "place"),
    [
        # Both at once: the container is ours.
        ({REQUEST_LABEL: "x", "aime.mlc": "alice"}, 60, "defaults.idle_timeout"),
        ({"devcontainer.local_folder": "/x"}, 60, "defaults.idle_timeout"),
        ({"com.docker.compose.project": "x"}, 30, "container_types.compose.idle_timeout"),
        ({"aime.mlc": "alice"}, 30, "container_types.aime.idle_timeout"),
        ({}, 15, "container_types.unknown.idle_timeout"),
    ],
)
def test_the_shorter_one_counts_and_is_named(book: Lawbook, labels: dict[str, str], idle: int, place: str) -> None:
    rules = book.rules("alice", container_type(labels))
    assert rules.idle_timeout == idle * 60_000
    assert rules.idle_from == place
