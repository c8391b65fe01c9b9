"""What this machine knows about one virtual machine: its files, its process, and how to reach it by ssh."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from lab.process import LabError, alone, run
from lab.vm_disk import HOME

_END_SECONDS = 60.0


@dataclass(frozen=True)
class State:
    """One virtual machine by name; its directory exists as long as the machine does."""

    name: str

    @property
    def directory(self) -> Path:
        """All files of this machine."""
        return HOME / "machines" / self.name

    @property
    def disk(self) -> Path:
        """What the machine wrote to its root disk."""
        return self.directory / "root.qcow2"

    @property
    def scratch(self) -> Path:
        """What the machine wrote to its second disk."""
        return self.directory / "scratch.qcow2"

    @property
    def console(self) -> Path:
        """What the kernel and systemd say while they start."""
        return self.directory / "console.log"

    @property
    def pidfile(self) -> Path:
        """Where qemu writes its process id."""
        return self.directory / "qemu.pid"

    @property
    def ssh_config(self) -> Path:
        """How ssh, Ansible and tests reach the machine by its name."""
        return self.directory / "ssh_config"

    @property
    def inventory(self) -> Path:
        """The machine as Ansible's inventory."""
        return self.directory / "inventory" / "hosts.yml"

    def pid(self) -> int | None:
        """The process of the machine, when it runs."""
        try:
            pid = int(self.pidfile.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        # A number may belong to somebody else by now.
        return pid if os.fsencode(self.disk) in words else None

    def end(self) -> None:
        """End the machine as when the power fails.

        Raises:
            LabError: It does not end.
        """
        limit = time.monotonic() + _END_SECONDS
        while (pid := self.pid()) is not None:
            if time.monotonic() > limit:
                raise LabError(f"{self.name}: process {pid} does not end")
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)

    def write_connection(self, port: int) -> None:
        """Write down how to reach the machine: for ssh, and for Ansible with the lab's own variables."""
        control = Path.home() / ".ansible" / "cp"
        control.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = {
            "HostName": "127.0.0.1",
            "Port": port,
            "User": "root",
            "IdentityFile": f'"{key()}"',
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": f'"{self.directory / "known_hosts"}"',
            "StrictHostKeyChecking": "accept-new",
            # Where it is emulated a login takes seconds, and the newest key exchange a second of them.
            "KexAlgorithms": "curve25519-sha256",
            "ControlMaster": "auto",
            "ControlPath": f'"{control}/lab-%C"',
            "ControlPersist": "300",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "8",
            "LogLevel": "ERROR",
        }
        lines = [f"Host {self.name}", *(f"  {key} {value}" for key, value in options.items())]
        self.ssh_config.write_text("\n".join(lines) + "\n")
        variables = {
            "ansible_connection": "ssh",
            "ansible_ssh_common_args": f"-F {shlex.quote(str(self.ssh_config))}",
            # A machine has a kernel of its own: nothing is forgiven here.
            "ds01_allow_cgroup_v1": False,
        }
        self.inventory.parent.mkdir(exist_ok=True)
        self.inventory.write_text(json.dumps({"ds01": {"hosts": {self.name: variables}}}, indent=2) + "\n")
        group_vars = self.inventory.parent / "group_vars"
        group_vars.unlink(missing_ok=True)
        group_vars.symlink_to(Path(__file__).parent / "inventory" / "group_vars")


def key() -> Path:
    """The private key that opens every virtual machine of this repository, made on first use."""
    path = HOME / "key"
    with alone(HOME / "key.lock"):
        if not path.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ds01-lab", "-f", str(path)])
    return path
