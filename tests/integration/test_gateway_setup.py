"""The gateway takes the engine's place on a real host: containers run on, and what fails is taken back."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab.process import ROOT
from lab.testhost import LabHost

CODE = "/root/ds01-gateway-setup"
VERSIONS = ("0.0.1-00000001", "0.0.1-00000002")
UNITS = ROOT / "roles/gateway/templates/etc/systemd/system"
# The host's own Python runs the package as Ansible ships it; at the step `kill_at` that changes something it is killed.
DRIVER = f"""
import json, os, sys
sys.path.insert(0, "{CODE}")
from ds01.engine.errors import EngineError
from ds01.host.gateway import GatewaySetup
request = json.load(sys.stdin)
kill_at, steps = request.get("kill_at", 0), 0
CHANGING = {{"reload", "stop", "start", "daemon-reload", "enable", "disable"}}
def hook(event, args):
    global steps
    if event in {{"os.rename", "os.remove", "os.rmdir"}} or event == "subprocess.Popen" and CHANGING & set(args[1]):
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
setup, result = GatewaySetup(), {{}}
try:
    if request["do"] == "remove":
        result["survived"] = setup.remove()
    else:
        plan = setup.plan()
        result = {{"changed": plan.changed, "restart": plan.move, "outdated": plan.outdated}}
        if request["do"] == "apply" and plan.changed:
            result["survived"] = setup.apply(plan)
except EngineError as error:
    result["error"] = str(error)
print(json.dumps(result | {{"steps": steps}}))
"""
SETTING = f"""
mkdir -p /etc/docker {CODE} /var/lib/ds01 /var/log/ds01 /run/ds01; chmod 755 /run/ds01
echo '{{"live-restore": true}}' >/etc/docker/daemon.json
systemctl reset-failed docker; systemctl restart docker
docker run -d --name one ds01-lab/base sleep 86400
for version in {" ".join(VERSIONS)}; do python3 -m venv --without-pip /opt/ds01/$version; done
ln -s {VERSIONS[0]} /opt/ds01/current
"""
ALIVE = "docker inspect --format '{{.State.Pid}} {{.State.Status}}' one"
ENGINE = "docker --host unix:///run/ds01/engine/docker.sock"


class Host:
    """A host with an ordinary engine, a container that runs, and two versions of the runtime."""

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self.before = host.sh(ALIVE)

    def do(self, what: str, **request: Any) -> dict[str, Any]:
        """Run the code on the host; a killed run answers nothing."""
        stdin = json.dumps({"do": what, **request}).encode()
        answer = self.host.run("python3", f"{CODE}/driver.py", stdin=stdin, check=False)
        return json.loads(answer.stdout) if answer.returncode == 0 else {"status": answer.returncode}

    def unharmed(self) -> bool:
        """Whether the container is the process that it was, by whoever answers where clients look."""
        return self.host.sh(ALIVE) == self.before

    def at_home(self) -> bool:
        """Whether the engine itself is where its package puts it, and nothing of ours is left."""
        left = self.host.sh("ls -d /run/ds01/engine /etc/systemd/system/docker.socket.d 2>/dev/null || true")
        active = self.host.sh("systemctl is-active ds01-gateway.socket || true").strip()
        return self.unharmed() and (left, active) == ("", "inactive")

    def processes(self) -> list[str]:
        """The versions of the gateway processes."""
        lines = self.host.sh("pgrep -af '^/opt/ds01/[^ ]* -I -m ds01.gateway' || true").splitlines()
        return sorted(line.split("/")[3] for line in lines)


@pytest.fixture(scope="module")
def there(lab_host: LabHost) -> Host:
    lab_host.sh(SETTING)
    lab_host.copy("src/ds01", f"{CODE}/")
    lab_host.write(f"{CODE}/driver.py", DRIVER)
    for version in VERSIONS:
        lab_host.sh(f"cp -r {CODE}/ds01 /opt/ds01/{version}/lib/python3*/site-packages/")
    for kind in ("service", "socket"):
        content = (UNITS / f"ds01-gateway.{kind}.j2").read_bytes()
        lab_host.write(f"/etc/systemd/system/ds01-gateway.{kind}", content)
    lab_host.sh("systemctl daemon-reload")
    return Host(lab_host)


@pytest.fixture
def gateway(there: Host) -> Iterator[Host]:
    """Each test begins with the engine at home."""
    yield there
    there.do("remove")
    there.host.sh(f"ln -sfn {VERSIONS[0]} /opt/ds01/current; rm -rf /etc/systemd/system/docker.service.d")


def test_it_takes_the_engines_place_once_and_gives_it_back(gateway: Host):
    assert gateway.do("look")["changed"]
    assert gateway.at_home()
    result = gateway.do("apply")
    assert result["survived"] == ["one"]
    assert gateway.unharmed()
    assert gateway.host.sh("stat -c %a%U /run/docker.sock /run/ds01/engine").split() == ["666root", "700root"]
    assert gateway.processes() == [VERSIONS[0]]
    assert gateway.host.sh(f"{ENGINE} ps --format '{{{{.Names}}}}'") == "one\n"
    again = gateway.do("apply")
    assert (again["changed"], again["steps"]) == (False, 0)
    assert gateway.do("remove")["survived"] == ["one"]
    assert gateway.at_home()


def test_killed_at_any_step_the_next_run_completes_it(gateway: Host):
    killed = 0
    # Every third step of the way there, and those after them of the way back: each kind of step is met.
    for step in range(2, 40, 3):
        if gateway.do("apply", kill_at=step).get("status") != 137:
            break
        killed += 1
        assert "error" not in gateway.do("apply"), step
        assert gateway.unharmed(), step
        assert not gateway.do("look")["changed"], step
        gateway.do("remove", kill_at=step + 1)
        assert "error" not in gateway.do("remove"), step
        assert gateway.at_home(), step
    assert killed > 2


def test_a_gateway_that_does_not_start_leaves_the_engine_where_it_was(gateway: Host):
    gateway.host.sh("ln -sfn nowhere /opt/ds01/current; mkdir -p /opt/ds01/nowhere/bin")
    gateway.host.write("/opt/ds01/nowhere/bin/python", "#!/bin/sh\necho 'no such luck' >&2; exit 1\n", 0o755)
    result = gateway.do("apply")
    assert "no such luck" in result["error"] or "ds01-gateway.service" in result["error"]
    assert gateway.at_home()
    gateway.host.sh(f"ln -sfn {VERSIONS[0]} /opt/ds01/current")
    assert "error" not in gateway.do("apply")


def test_an_engine_that_does_not_start_behind_it_is_back_where_it_was(gateway: Host):
    gateway.host.sh("mkdir -p /etc/systemd/system/docker.service.d")
    refuse = "[Service]\nExecStartPre=/bin/sh -c '! test -S /run/ds01/engine/docker.sock'\n"
    gateway.host.write("/etc/systemd/system/docker.service.d/test.conf", refuse)
    assert "docker.service" in gateway.do("apply")["error"]
    assert gateway.at_home()


def test_another_version_takes_over_and_what_is_open_stays_open(gateway: Host):
    gateway.do("apply")
    argv = ["docker", "exec", gateway.host.name, "docker", "events", "--filter", "event=rename"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as events:
        # Nobody says when it begins to listen.
        while not select.select([events.stdout], [], [], 0.2)[0]:
            gateway.host.sh("docker rename one begun; docker rename begun one")
        gateway.host.sh(f"ln -sfn {VERSIONS[1]} /opt/ds01/current")
        result = gateway.do("apply")
        assert (result["outdated"], result["restart"]) == (True, [])
        assert gateway.processes() == list(VERSIONS)
        gateway.host.sh("docker rename one other; docker rename other one")
        assert events.stdout is not None
        assert any("name=other" in line for line in events.stdout)
        gateway.host.sh("pkill -f '^docker events'")
    gateway.host.sh(f"timeout 120 sh -c 'while pgrep -f ^/opt/ds01/{VERSIONS[0]}; do sleep 0.1; done'")
    assert gateway.processes() == [VERSIONS[1]]
    assert not gateway.do("look")["changed"]


def test_nobody_else_listens_when_the_gateway_is_gone(gateway: Host):
    gateway.do("apply")
    gateway.host.sh("systemctl stop ds01-gateway.socket")
    for again in ("true", "systemctl reset-failed docker; systemctl restart docker.service"):
        gateway.host.sh(again)
        assert "Cannot connect" in gateway.host.run("docker", "ps", check=False).stderr
        assert gateway.host.sh(f"{ENGINE} inspect --format '{{{{.State.Running}}}}' one") == "true\n"
