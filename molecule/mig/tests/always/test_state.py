"""The GPUs are what the policy says, as the deployment left them and after a reboot."""

from __future__ import annotations

import json

import yaml


def saved(host) -> dict[str, str]:
    gpus = json.loads(host.file("/var/lib/ds01/mig/desired.json").content_string)["gpus"].values()
    return {item["uuid"]: f"{item['profile']}@{item['start']}" for gpu in gpus for item in gpu["instances"]}


def test_the_gpus_are_what_the_policy_says(host, gpus):
    assert gpus.layouts() == gpus.policy
    assert host.run("ds01 mig assert").rc == 0


def test_what_is_saved_and_what_the_engine_is_told_are_the_devices_of_today(host, gpus):
    devices = {uuid: what for gpu in range(4) for uuid, what in gpus.devices(gpu).items()}
    assert saved(host) == devices
    spec = yaml.safe_load(host.file("/run/cdi/nvidia.yaml").content_string)
    names = {device["name"] for device in spec["devices"]}
    assert names >= {*devices, "0:0", "0:3", "1:1", "2:0", "3"}


def test_a_boot_divides_the_gpus_before_the_engine_starts(host):
    assert host.file("/etc/systemd/system/multi-user.target.wants/ds01-mig.service").is_symlink
    # The deployment before the first boot did it itself.
    if host.service("ds01-mig.service").is_running:
        shown = "systemctl show --property=%s --value %s"
        divided = int(host.check_output(shown, "ExecMainExitTimestampMonotonic", "ds01-mig.service"))
        started = int(host.check_output(shown, "ExecMainStartTimestampMonotonic", "docker.service"))
        assert 0 < divided <= started
        journal = host.check_output("journalctl --boot --unit ds01-mig.service --output=cat")
        # Each device that was rebuilt is named with the one that it was.
        assert all(f"is now {uuid}" in journal for uuid in saved(host))


def test_the_toolkit_lets_nobody_past(host):
    config = host.file("/etc/nvidia-container-runtime/config.toml").content_string
    assert "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n" in config
    assert "accept-nvidia-visible-devices-as-volume-mounts = false\n" in config
    assert host.check_output("docker info --format '{{.DefaultRuntime}}'") == "runc"
