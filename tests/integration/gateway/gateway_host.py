"""A host whose engine is behind the gateway, as systemd runs it, and people on it."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

from lab.process import ROOT
from lab.testhost import LabHost

CODE = "/root/ds01-gateway-test"
SOCKET = "/run/gw/docker.sock"
POLICY = """
default_group: student
defaults:
  {max_cpus: 1, memory: 128m, shm_size: 32m, pids_limit: 100, max_containers_per_user: 20,
   io_read_bps: 64m, io_write_bps: 32m}
groups: {student: {members: [alice, bob]}}
admins: {groups: [ds01-admin]}
images:
  max_upload: 64m
  registries: ["localhost:5000", "localhost:5001", "localhost:5002", "localhost:5003", docker.io, "localhost:5004/lab"]
"""
# The host has no validator; the tables of the policy are what the service would get from its cache.
MAIN = f"""
import json, sys
sys.path.insert(0, "{CODE}")
from ds01.gateway.__main__ import main
sys.exit(main(lambda path: json.loads(path.read_text())))
"""
# The units are the role's; a bare host has another place for code, policy and ledger, and its engine is not moved.
UNITS = ROOT / "roles/gateway/templates/etc/systemd/system"
NAMES = {"service": "gw.service", "socket": "gw.socket"}
CHANGES = {
    "service": f"""
[Service]
ExecStart=
ExecStart=/usr/bin/python3 {CODE}/main.py --engine /run/docker.sock --users /run/gw/users \
  --policy {CODE}/tables.json --ledger /var/lib/gw-ledger.db
""",
    "socket": f"""
[Socket]
ListenStream=
ListenStream={SOCKET}
""",
}
# A person's directory as the storage role makes it: root in a container cannot leave a way to root there. The first
# request starts the gateway, which makes the ledger.
SETTING = """
useradd -m alice; useradd -m bob; groupadd -f ds01-admin; useradd -m -G ds01-admin carol
mkdir -p /etc/docker; echo '{"exec-opts": ["native.cgroupdriver=systemd"]}' >/etc/docker/daemon.json
systemctl reset-failed docker; systemctl restart docker
mkdir -p /srv/people; mount -t tmpfs -o nosuid,nodev tmpfs /srv/people; install -d -o alice -g alice /srv/people/alice
cd /; tar -ch usr/bin/docker $(ldd /usr/bin/docker | grep -o '/lib[^ ]*' | sed 's,^/,,') |
  docker import - ds01-lab/client >/dev/null
systemctl daemon-reload; systemctl start gw.socket; docker -H unix://SOCKET version >/dev/null
""".replace("SOCKET", SOCKET)


def install_units(host: LabHost) -> None:
    """Write the gateway's units, with what differs on this host."""
    for kind, name in NAMES.items():
        text = (UNITS / f"ds01-gateway.{kind}.j2").read_text(encoding="utf-8")
        assert "{{" not in text
        host.write(f"/etc/systemd/system/{name}", text.replace("ds01-gateway.", "gw."))
        host.run("mkdir", "-p", f"/etc/systemd/system/{name}.d")
        host.write(f"/etc/systemd/system/{name}.d/50-test.conf", CHANGES[kind])


class GatewayHost:
    """What a test does there."""

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self.uid = {name: int(host.sh(f"id -u {name}")) for name in ("alice", "bob", "carol")}

    def argv(self, user: str, *command: str) -> list[str]:
        """The command that runs another one as a person, with the gateway as the engine."""
        return [
            "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "-i", "PATH=/usr/bin:/bin",
            f"HOME=/home/{user}", f"DOCKER_HOST=unix://{SOCKET}", "DOCKER_BUILDKIT=0", *command,
        ]  # fmt: skip

    def run(self, user: str, *command: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as a person."""
        return self.host.run(*self.argv(user, *command), stdin=stdin, check=check)

    def sh(self, user: str, script: str) -> str:
        """What a shell script prints when a person runs it; errors of commands are in it."""
        return self.run(user, "sh", "-c", f"exec 2>&1\n{script}", check=False).stdout

    def start(self, user: str, script: str) -> subprocess.Popen[str]:
        """Run a shell script as a person in the background."""
        argv = ["docker", "exec", "-i", self.host.name, *self.argv(user, "sh", "-c", script)]
        return subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def python(self, user: str, code: str, **values: Any) -> Any:
        """What a Python function `main(**values)` returns when a person runs it."""
        script = f"{PRELUDE}\n{code}\nimport json\nprint(json.dumps(main(**json.loads({json.dumps(values)!r}))))"
        return json.loads(self.run(user, "python3", "-", stdin=script.encode()).stdout)

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine itself says of an object."""
        return json.loads(self.host.sh(f"docker inspect {shlex.quote(name)}"))[0]

    def main_pid(self) -> int:
        """The process that systemd takes for the gateway."""
        return int(self.host.sh("systemctl show -P MainPID gw.service"))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of a type so far."""
        lines = self.host.sh("cat /var/log/ds01/events.jsonl 2>/dev/null || :").splitlines()
        return [event for event in map(json.loads, lines) if event["type"] == kind]


# For code that runs on the host: requests as raw bytes. An answer ends with its connection, so nobody waits so long.
PRELUDE = f"""
import os, socket, time
def connect(path="{SOCKET}"):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(120)
    sock.connect(path)
    return sock
def read_all(sock, wait=120):
    data = b""
    sock.settimeout(wait)
    try:
        while piece := sock.recv(1 << 16):
            data += piece
    except TimeoutError:
        pass
    return data
def talk(raw, path="{SOCKET}", wait=120):
    sock = connect(path)
    sock.sendall(raw)
    try:
        return read_all(sock, wait).decode("latin-1")
    except ConnectionResetError:
        return ""
    finally:
        sock.close()
"""
