"""What the tests of a host's GPUs share: the simulated driver's own word, and the commands that change the layout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

_REPOSITORY = Path(__file__).resolve().parents[3]


class Gpus:
    """The GPUs of the host, as the driver has them and as DS01 divides them."""

    # As lab/resource-limits.yaml wants them.
    policy: ClassVar = {
        0: ["1g.10gb@6", "2g.20gb@0", "2g.20gb@2", "2g.20gb@4"],
        1: ["3g.40gb@0", "3g.40gb@4"],
        2: ["7g.80gb@0"],
        3: "whole",
    }

    def __init__(self, host) -> None:
        self.host = host
        self._containers: list[str] = []

    def layout(self, gpu: int) -> list[str] | str:
        """Return what the driver has: the instances of a GPU, or whole."""
        state = self._state(gpu)
        return sorted(self.devices(gpu).values()) if state["mig"] else "whole"

    def layouts(self) -> dict[int, list[str] | str]:
        """Return what the driver has on every GPU."""
        return {gpu: self.layout(gpu) for gpu in self.policy}

    def devices(self, gpu: int) -> dict[str, str]:
        """Return the UUIDs of a GPU's MIG devices -> instance. All instances are finished."""
        instances = self._state(gpu)["instances"]
        assert all(item["compute"] for item in instances)
        return {part["uuid"]: f"{item['profile']}@{item['start']}" for item in instances for part in item["compute"]}

    def _state(self, gpu: int) -> dict:
        return json.loads(self.host.check_output("nvmlsim list --json"))["gpus"][gpu]

    def write(self, **layouts: dict[str, int]) -> str:
        """Write a file of mig-parted with a layout for each gpu<number>, and return its path."""
        blocks = [
            {"devices": [int(gpu.removeprefix("gpu"))], "mig-enabled": True, "mig-devices": counts}
            for gpu, counts in layouts.items()
        ]
        text = json.dumps({"version": "v1", "mig-configs": {"test": blocks}})
        self.host.check_output("printf %%s %s > /root/layout.yaml", text)
        return "/root/layout.yaml"

    def apply(self, **layouts: dict[str, int]):
        """Apply a layout and return what came of it; without one, the policy's."""
        return self.host.run(f"ds01 mig apply{f' --config {self.write(**layouts)}' if layouts else ''}")

    def use(self, device: str, user: str = "alice") -> str:
        """Let a person's container use a device, and return its name."""
        uid = self.host.user(user).uid
        name = f"train-{uuid.uuid4().hex[:8]}._.{uid}"
        self._containers.append(name)
        self.host.check_output(
            "docker run --detach --name %s --device nvidia.com/gpu=%s --cgroup-parent ds01-student-%s.slice "
            "ds01-lab/base fakecuda --memory 1000",
            name,
            device,
            user,
        )
        self.host.check_output(
            "timeout 120 sh -c 'until ds01 gpu processes --json | grep -q %s; do sleep 0.2; done'", "fakecuda"
        )
        return name

    def release(self) -> None:
        """Remove all these containers."""
        for name in self._containers:
            self.host.check_output("docker rm --force %s", name)
        self._containers.clear()


@pytest.fixture
def gpus(host) -> Iterator[Gpus]:
    found = Gpus(host)
    yield found
    found.release()
    assert found.apply().rc == 0
    assert host.run("ds01 mig assert").rc == 0


@pytest.fixture
def play(tmp_path):
    """Run a playbook of the repository on the scenario's host, with the lab's policy or another layout in it."""

    def run(playbook: str, *arguments: str, layout: str = "") -> subprocess.CompletedProcess[str]:
        scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
        policy = _REPOSITORY / "lab" / "resource-limits.yaml"
        if layout:
            start, _, rest = policy.read_text().partition("gpu_allocation:\n")
            shutil.copy(policy.with_name("people.csv"), tmp_path)
            policy = tmp_path / policy.name
            policy.write_text(f"{start}gpu_allocation: {layout}\n{rest[rest.index('admins:') :]}")
        return subprocess.run(
            [
                Path(sys.executable).parent / "ansible-playbook",
                "--inventory=lab/inventory/shared.yml",
                f"--inventory={scenario / 'inventory' / 'hosts.yml'}",
                f"--extra-vars=ds01_policy_file={policy}",
                *arguments,
                f"playbooks/{playbook}",
            ],
            cwd=_REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(_REPOSITORY / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
