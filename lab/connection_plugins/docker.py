"""Connection plugin for lab hosts: everything goes through `docker exec`."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: docker
short_description: Reach a lab host through the local container engine
description:
  - Runs commands with C(docker exec) and moves files through its standard input and output.
  - It needs no collection, and testinfra knows this plugin's name.
author: DS01
extends_documentation_fragment:
  - connection_pipelining
options:
  remote_addr:
    description: The container's name.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
  remote_user:
    description: Who runs commands in the container. Its own default, root, when not given.
    type: str
    vars:
      - name: ansible_user
    keyword:
      - name: remote_user
"""


class Connection(ConnectionBase):  # type: ignore[misc]  # ansible ships no types
    """One container of the local engine."""

    transport = "docker"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def close(self) -> None:
        self._connected = False

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["/bin/sh", "-c", cmd], in_data or b"")

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        source = Path(in_path)
        if not source.is_file():
            raise AnsibleFileNotFound(f"{in_path}: no such file on this machine")
        self._transfer(f"cat > {shlex.quote(out_path)}", out_path, source.read_bytes())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        Path(out_path).write_bytes(self._transfer(f"cat {shlex.quote(in_path)}", in_path))

    def _transfer(self, command: str, path: str, data: bytes = b"") -> bytes:
        status, out, err = self._run(["/bin/sh", "-c", command], data)
        if status != 0:
            raise AnsibleConnectionFailure(f"{path}: {err.decode(errors='replace').strip()}")
        return out

    def _run(self, argv: list[str], data: bytes = b"") -> tuple[int, bytes, bytes]:
        user = self.get_option("remote_user")
        container = self.get_option("remote_addr")
        chosen = ["--user", user] if user else []
        done = subprocess.run(
            ["docker", "exec", "--interactive", *chosen, container, *argv], input=data, capture_output=True, check=False
        )
        return done.returncode, done.stdout, done.stderr
