"""GPUs on the gateway's host: four of them, two divided, leased through the gateway and watched by the reconciler."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

from ds01.policy import load_policy
from tests.integration.gateway.gateway_host import CODE, MAIN, GatewayHost

LEDGER = "/var/lib/gw-ledger.db"
KILL = "/run/gw/kill-after"
POLICY = """
default_group: student
defaults: {max_cpus: 1, memory: 128m, shm_size: 32m, pids_limit: 100, max_containers_per_user: 20,
  max_mig_instances: 2, max_gpus_per_container: 2, gpu_hold_after_stop: 1h}
groups: {student: {members: [alice, bob]}, guest: {members: [carol], gpu_hold_after_stop: 0s}}
admins: {groups: [ds01-admin]}
"""
# Students may use no whole GPU, so these four devices are all there are for them.
SIMULATE = """
nvmlsim create A100-80 A100-80 A100-80 A100-80 --layout 0=3g.40gb,1g.10gb --layout 1=2g.20gb,2g.20gb --nodes
mkdir -p /etc/cdi; nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml --device-name-strategy=uuid
echo '{"exec-opts": ["native.cgroupdriver=systemd"], "features": {"cdi": true}}' >/etc/docker/daemon.json
systemctl reset-failed docker; systemctl restart docker; systemctl restart gw.service
systemd-run -q --unit=gw-reconcile -p Restart=always -p RestartSec=1 python3 CODE/jobs.py follow
""".replace("CODE", CODE)
# The service ends at the step that a file names, as by SIGKILL: what a crash there leaves behind.
DIES = f"""
import functools, os, pathlib, sys
sys.path.insert(0, "{CODE}")
from ds01.gateway.gpus import Gpus
def deadly(name):
    work, file = getattr(Gpus, name), pathlib.Path("{KILL}")
    @functools.wraps(work)
    async def done(*args, **named):
        found = await work(*args, **named)
        if file.exists() and file.read_text() == name:
            file.unlink()
            os.kill(os.getpid(), 9)
        return found
    setattr(Gpus, name, done)
for step in ("allocate", "bind", "start"):
    deadly(step)
{MAIN}
"""
# The jobs of the ledger as the host's services run them, and the allocator as root's command uses it.
JOBS = f"""
import json, pathlib, sqlite3, sys
sys.path.insert(0, "{CODE}")
from ds01.enforce import ledger as jobs
from ds01.allocator.people import People
from ds01.allocator.request import Request
from ds01.allocator.service import Allocator
from ds01.cdi.files import SpecFiles
from ds01.ledger import Ledger
place = jobs.Place(ledger=pathlib.Path("{LEDGER}"), backups=pathlib.Path("/var/lib/gw-backups"),
                   policy=pathlib.Path("{CODE}/tables.json"))
jobs.load_tables = lambda path: json.loads(path.read_text())
def allocator():
    return Allocator(Ledger(place.ledger), People(jobs.load_tables(place.policy)), SpecFiles())
def rows(query, *values):
    with sqlite3.connect(place.ledger) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, values)]
def leases():
    return rows("SELECT leases.*, user, gpu_index, mig_index FROM leases JOIN claims USING (token) JOIN devices"
                " ON devices.uuid = leases.device WHERE leases.state <> 'released' ORDER BY leases.id")
def tokens(user=None):
    return [row["token"] for row in rows("SELECT * FROM claims WHERE state = 'open'") if user in (None, row["user"])]
if sys.argv[1] == "follow":
    jobs.follow(place)
else:
    exec(sys.stdin.read())
"""  # noqa: S608 - nothing in it comes from outside


class GpuHost(GatewayHost):
    """What a test does there."""

    def root(self, code: str) -> Any:
        """What Python code on the host leaves in `answer`; it has `allocator`, `rows`, `jobs` and `place`."""
        script = f"answer = None\n{code}\nprint(json.dumps(answer))"
        return json.loads(self.host.run("python3", f"{CODE}/jobs.py", "run", stdin=script.encode()).stdout)

    def leases(self) -> list[dict[str, Any]]:
        """The live leases, with whose they are."""
        found: list[dict[str, Any]] = self.root("answer = leases()")
        return found

    def give_away(self, user: str) -> None:
        """Take from somebody's containers what they hold without running, as for somebody else."""
        self.root(f"[allocator().release(token, 'needed') for token in tokens({user!r})]")

    def look(self) -> list[str]:
        """Compare the ledger with what runs, now; returns what was corrected."""
        return self.root("answer = jobs.compare(place).lines")

    def tables(self, text: str) -> None:
        """Let this be the policy from now on."""
        with tempfile.TemporaryDirectory() as place:
            policy = Path(place, "policy.yaml")
            policy.write_text(text, encoding="utf-8")
            self.host.write(f"{CODE}/tables.json", json.dumps(load_policy(policy).policy.tables))


def with_gpus(gateway: GatewayHost) -> GpuHost:
    """Give the gateway's host GPUs."""
    host = gateway.host
    host.write(f"{CODE}/pynvml.py", Path(pynvml.__file__).read_text(encoding="utf-8"))
    host.write(f"{CODE}/jobs.py", JOBS)
    host.write(f"{CODE}/main.py", DIES)
    gpus = GpuHost(host)
    gpus.tables(POLICY)
    host.sh(SIMULATE)
    gpus.look()
    return gpus


def until(found: Callable[[], Any], within_s: float = 120) -> Any:
    """What a question answers when that is something, or at the end of the time."""
    end = time.monotonic() + within_s
    while not (answer := found()) and time.monotonic() < end:
        time.sleep(0.2)
    return answer
