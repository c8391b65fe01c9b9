"""Who would notice a deployment."""

from __future__ import annotations

from typing import Any

import pytest

from ds01.host.containers import effects, has_legacy_gpu

SYSTEMD = {"CgroupDriver": "systemd", "DefaultRuntime": "runc"}
ALL_GPUS = {"DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]]}]}


def container(
    host: dict[str, Any] | None = None, env: list[str] | None = None, *, running: bool = True
) -> dict[str, Any]:
    state = {"Status": "running" if running else "exited", "Running": running}
    return {"Name": "/c", "State": state, "HostConfig": host or {}, "Config": {"Env": env}, "Mounts": []}


@pytest.mark.parametrize(
    ("host", "env", "runtime", "legacy"),
    [
        ({}, [], "runc", False),
        (ALL_GPUS, [], "runc", True),
        ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["ds01.io/gpu=x"]}]}, [], "runc", False),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=all"], "runc", True),
        ({"Runtime": "runc"}, ["NVIDIA_VISIBLE_DEVICES=all"], "nvidia", False),
        ({}, ["NVIDIA_VISIBLE_DEVICES=all"], "nvidia", True),
        ({}, ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=void"], "nvidia", False),
        ({}, [], "nvidia", False),
    ],
)
def test_a_gpu_by_the_hook(host: dict[str, Any], env: list[str], runtime: str, legacy: bool):
    assert has_legacy_gpu(container(host, env), runtime) is legacy


def test_only_a_running_one_under_systemd_loses_it():
    assert effects(container(ALL_GPUS), SYSTEMD, restarts=False)["loses_gpu"]
    assert not effects(container(ALL_GPUS, running=False), SYSTEMD, restarts=False)["loses_gpu"]
    assert not effects(container(ALL_GPUS), {"CgroupDriver": "cgroupfs"}, restarts=False)["loses_gpu"]


def test_a_restart_is_said_only_if_there_is_one():
    assert "restart" in effects(container(), SYSTEMD, restarts=True)["effects"][0]
    assert not any("restart" in said for said in effects(container(), SYSTEMD, restarts=False)["effects"])


@pytest.mark.parametrize("source", ["/var/run/docker.sock", "/run/ds01/engine/docker.sock"])
@pytest.mark.parametrize(("restarts", "moves"), [(True, True), (True, False), (False, False)])
def test_a_mounted_socket_is_named_when_it_dies(source: str, restarts: bool, moves: bool):
    mounted = container() | {"Mounts": [{"Source": source}]}
    said = effects(mounted, SYSTEMD, restarts=restarts, moves=moves)["effects"]
    assert any("socket" in text for text in said) is (moves if source == "/var/run/docker.sock" else restarts)
