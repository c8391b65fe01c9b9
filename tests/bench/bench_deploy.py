"""`container deploy` from the command to a container that runs, in turns with plain `docker run -d` of the same image.

Both as the same person on a lab host, both through the gateway; and `docker run` past it, as root.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from lab import testhost
from tests.integration.gateway.commands_host import SHELL, Commands, equip
from tests.integration.gateway.conftest import gateway
from tests.integration.gateway.gateway_host import GatewayHost

__all__ = ["gateway"]

RUNS = 5
PLAIN = ("docker", "run", "-d", "--entrypoint", "sleep", "--name", "plain", SHELL, "999")


@pytest.fixture(scope="session")
def lab_host() -> Iterator[testhost.LabHost]:
    with testhost.fresh() as host:
        yield host


def test_deploy(gateway: GatewayHost):
    equip(gateway)
    do = Commands(gateway)
    ways: dict[str, tuple[Callable[[], object], str]] = {
        "docker run, the engine": (lambda: gateway.host.run(*PLAIN), "plain"),
        "docker run, the gateway": (lambda: do.ok(*PLAIN), f"plain._.{do.uid}"),
        "container deploy": (lambda: do.ok("container-deploy", "train", SHELL, "--cpu-only"), f"train._.{do.uid}"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(RUNS):
        for name, (make, engine_name) in ways.items():
            begun = time.perf_counter()
            make()
            times[name].append((time.perf_counter() - begun) * 1000)
            assert gateway.inspect(engine_name)["State"]["Running"]
            gateway.host.run("docker", "rm", "-f", engine_name)
    base = statistics.median(times["docker run, the engine"])
    print(f"\n{'':<26}{'median ms':>10}{'ratio':>7}")
    for name, found in times.items():
        print(f"{name:<26}{statistics.median(found):>10.0f}{statistics.median(found) / base:>7.2f}")
