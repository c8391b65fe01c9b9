"""The GPUs of the server, as root and members see them, and whose each process on them is."""

from __future__ import annotations

import json

import pytest


def _devices(host, user: str = "root") -> dict[str, dict]:
    data = json.loads(host.check_output("su - %s -c 'ds01 gpu list --json'", user))
    assert data["complete"]
    return {device["id"]: device for gpu in data["gpus"] for device in gpu["devices"]}


def _processes(host, user: str = "root") -> dict[int, dict]:
    data = json.loads(host.check_output("su - %s -c 'ds01 gpu processes --json'", user))
    return {
        process["pid"]: process | {"device": entry["id"]} for entry in data["devices"] for process in entry["processes"]
    }


@pytest.fixture
def hold(host):
    """Let a process hold a GiB of a device until the test ends."""
    held = []

    def begin(device: str, pid: int) -> None:
        host.check_output("nvmlsim attach %s %s --memory 1024", device, str(pid))
        held.append(pid)

    yield begin
    for pid in held:
        host.run("nvmlsim detach %s", str(pid))


def test_every_device_of_the_server_is_listed(host):
    truth = {}
    for gpu in json.loads(host.check_output("nvmlsim list --json"))["gpus"]:
        parts = [(part["uuid"], item) for item in gpu["instances"] for part in item["compute"]]
        truth |= {uuid: (item["profile"], item["start"]) for uuid, item in parts}
        if not gpu["mig"]:
            truth[gpu["uuid"]] = ("full", None)
    listed = _devices(host)
    assert {
        device["uuid"]: (device["profile"], device["placement"] and device["placement"]["start"])
        for device in listed.values()
    } == truth
    assert host.run("ds01 gpu health").rc == 0


def test_a_member_sees_the_same_devices_without_opening_one(host):
    shown = json.loads(host.check_output("su - alice -c 'ds01 gpu status --json'"))["devices"]
    assert {device["id"]: device["profile"] for device in shown} == {
        name: device["profile"] for name, device in _devices(host).items()
    }
    told = host.run("su - alice -c 'ds01 gpu list'")
    assert told.rc == 0, told.stderr
    assert [line.split()[0] for line in told.stdout.splitlines()[1:]] == [device["id"] for device in shown]
    refused = host.run("su - alice -c 'ds01 gpu processes'")
    assert refused.rc == 3
    assert "closed to your login: `ds01 dashboard --once` shows each device" in refused.stderr


@pytest.mark.parametrize("user", ["root", "erin"])
def test_a_process_is_its_containers_persons_or_the_systems(host, containers, hold, user):
    device = list(_devices(host))[-1]
    name = containers.start("alice")
    full, pid = host.check_output("docker inspect --format '{{.Id}} {{.State.Pid}}' %s", name).split()
    host.check_output("systemd-run --quiet --unit=gpu-job --uid=carol sleep 600")
    host.check_output("systemd-run --quiet --unit=gpu-daemon sleep 600")
    try:
        job, daemon = (
            host.check_output("systemctl show --property=MainPID --value %s", unit)
            for unit in ("gpu-job", "gpu-daemon")
        )
        for number in (pid, job, daemon):
            hold(device, int(number))
        found = _processes(host, user)
        assert {found[int(number)]["device"] for number in (pid, job, daemon)} == {device}
        assert found[int(pid)]["origin"]["container_id"] == full
        assert found[int(job)]["owner"] == "carol"
        assert found[int(daemon)]["owner"] == "system (gpu-daemon.service)"
    finally:
        host.check_output("systemctl stop gpu-job gpu-daemon")
