"""An earlier DS01 on a real host: out of service without stopping anything, and back again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ds01.policy import load_policy, resolve
from lab.testhost import LabHost, fresh

CODE = "/root/ds01-predecessor-test"
DRIVER = f"""
import json, os, sys
sys.path.insert(0, "{CODE}")
from ds01.host.retire import Retirement
from ds01.host.traces import Traces
request, steps = json.load(sys.stdin), 0
def hook(event, args):
    global steps
    if event in {{"os.rename", "os.mkdir"}} or event == "subprocess.Popen" and {{"stop", "disable"}} & set(args[1]):
        steps += 1
        if steps == request.get("kill_at"):
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
retirement = Retirement(Traces())
result = {{}}
if request["do"] == "retire":
    planned = retirement.planned()
    result["taken"] = [str(trace.path) for trace in planned]
    retirement.retire(planned)
else:
    result["kept"] = retirement.put_back()
print(json.dumps(result | {{"steps": steps}}))
"""
# Times and the order in a directory may differ; what a file is, whose, and what it says may not.
STATE = (
    "for d in /etc/cron.d /etc/sudoers.d /etc/profile.d /etc/logrotate.d /etc/systemd/system /usr/local/bin "
    "/var/spool/cron /var/lib/ds01 /var/log/ds01; do find $d -printf '%p %y %m %u %g %l\\n'; "
    "find $d -type f -exec sha256sum {} +; done | sort; python3 -m json.tool --sort-keys /etc/docker/daemon.json; "
    "systemctl is-active ds01-exporter opa-docker-authz || true"
)


class Earlier:
    """A host with an earlier installation and a container."""

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self.before = host.sh(STATE)
        self.engine = self._engine()

    def do(self, what: str, **request: Any) -> dict[str, Any]:
        """Run the code on the host; a killed run answers nothing."""
        stdin = json.dumps({"do": what, **request}).encode()
        answer = self.host.run("python3", f"{CODE}/driver.py", stdin=stdin, check=False)
        return json.loads(answer.stdout) if answer.returncode == 0 else {"status": answer.returncode}

    def unharmed(self) -> bool:
        """Whether engine and container are the processes that they were."""
        return self._engine() == self.engine

    def _engine(self) -> str:
        return self.host.sh("systemctl show --property=MainPID docker; docker inspect --format '{{.State.Pid}}' job")


@pytest.fixture(scope="module")
def earlier() -> Iterator[Earlier]:
    with fresh() as host:
        host.copy("molecule/upgrade/files/earlier-ds01", "/root/")
        host.sh(f"/root/earlier-ds01; /usr/bin/docker run -d --name job ds01-lab/base sleep 86400; mkdir {CODE}")
        # Of somebody who is not root, and no UTF-8.
        host.write("/var/spool/cron/crontabs/games", b"# caf\xe9\n1 * * * * /opt/ds01-infra/\xff\n", 0o600)
        host.copy("src/ds01", f"{CODE}/")
        host.write(f"{CODE}/driver.py", DRIVER)
        yield Earlier(host)


def test_it_goes_and_comes_back_as_it_was(earlier: Earlier):
    taken = earlier.do("retire")["taken"]
    assert taken[0] == "/etc/cron.d/ds01-maintenance"
    assert earlier.unharmed()
    assert earlier.host.sh("ls /etc/sudoers.d /usr/local/bin").split() == [
        "/etc/sudoers.d:", "README", "/usr/local/bin:", "lab-tool",
    ]  # fmt: skip
    assert earlier.do("retire")["taken"] == []
    assert earlier.do("return")["kept"] == []
    assert earlier.unharmed()
    # Only its directories are not for the group docker again: that was the hole.
    changed = {"/var/lib/ds01 d", "/var/log/ds01 d"}
    now = earlier.host.sh(STATE)
    different = set(now.splitlines()) ^ set(earlier.before.splitlines())
    assert {" ".join(line.split()[:2]) for line in different} <= changed


def test_its_lists_are_fetched_as_a_policy_and_nothing_changes(earlier: Earlier, tmp_path: Path):
    before = earlier.host.sh(STATE)
    arguments = ("playbooks/import.yml", f"--extra-vars=predecessor_import_directory={tmp_path}")
    earlier.host.play(*arguments)
    assert "changed=0" in earlier.host.play(*arguments).stdout
    assert earlier.host.sh(STATE) == before
    place = tmp_path / "lab-ds01"
    found = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    lists = {"group-overrides.txt", "groups/researcher.members", "groups/student.members", "lifecycle-exemptions.yaml"}
    assert found == lists | {"resource-limits.yaml", "user-overrides.yaml"}
    policy = load_policy(place / "resource-limits.yaml").policy
    people = {name: resolve(policy, name, datetime.now(UTC)) for name in ("alice", "bob", "carol", "dave")}
    assert [person.group for person in people.values()] == ["student", "student", "researcher", "faculty"]
    assert [people[name].values["max_cpus"] for name in ("alice", "bob")] == [32, 2]


def test_killed_at_any_step_the_next_run_completes_it(earlier: Earlier):
    complete = earlier.do("retire")["steps"]
    earlier.do("return")
    before = earlier.host.sh(STATE)
    for step in range(1, complete, 5):
        assert earlier.do("retire", kill_at=step)["status"] == 137
        assert "status" not in earlier.do("retire")
        assert earlier.host.sh("ls /etc/cron.d") == "e2scrub_all\n", step
        assert earlier.unharmed(), step
        assert earlier.do("return")["kept"] == [], step
        assert earlier.host.sh(STATE) == before, step
