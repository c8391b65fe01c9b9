"""Messages on real terminals of people who are logged in, and in containers, from within the sandbox of the timer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import prometheus_client
import pynvml
import pytest
import yaml

from ds01.policy import load_policy
from lab.testhost import LabHost

ROOT = Path(__file__).parents[2]
CODE = "/root/ds01-notices-test"
WAIT_S = 120.0
POLICY = """
default_group: student
defaults: {max_containers_per_user: 50}
groups: {student: {members: [ada, bob]}}
admins: {groups: [], users: [bob]}
"""
DRIVER = f"""
import json, sys
sys.path.insert(0, "{CODE}")
from pathlib import Path
from ds01.ledger import Ledger, create, lifecycle, objects
from ds01.notify import dispatch

here = Path("{CODE}")
tables = json.loads((here / "tables.json").read_text())
wish = json.loads((here / "wish.json").read_text())
ledger = Path("/var/lib/ds01/notices-test.db")
create(ledger)
with Ledger(ledger) as opened, opened.transaction() as tx:
    for container, uid in wish["containers"]:
        objects.note(tx, "container", container, container[:12], uid)
    for uid, text in wish["tell"]:
        lifecycle.tell(tx, uid, "warning", "job", text)
outcome = dispatch.run(dispatch.Place(ledger=ledger, tables=lambda _: tables))
for line in (*outcome.lines, *outcome.problems):
    print(line)
"""


@pytest.fixture(scope="module")
def host(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    lab_host.sh(f"mkdir -p {CODE} /run/ds01 /var/lib/ds01/enforce /var/log/ds01")
    for source in ("src/ds01", pynvml.__file__, Path(prometheus_client.__file__).parent):
        lab_host.copy(source, f"{CODE}/{Path(source).name}")
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    lab_host.write(f"{CODE}/tables.json", json.dumps(load_policy(policy).policy.tables))
    lab_host.write(f"{CODE}/driver.py", DRIVER)
    lab_host.write("/etc/systemd/system/ds01-notices-test.service", unit())
    lab_host.sh(
        f"systemctl daemon-reload; ssh-keygen -q -t ed25519 -N '' -f {CODE}/key;"
        "for each in ada:4811 bob:4812; do name=${each%:*}; useradd --create-home --uid ${each#*:} $name;"
        f"install -d -m 700 -o $name /home/$name/.ssh;"
        f"install -m 600 -o $name {CODE}/key.pub /home/$name/.ssh/authorized_keys; done; systemctl start ssh docker"
    )
    yield lab_host
    lab_host.sh(
        "docker ps -aq | xargs -r docker rm --force >/dev/null;"
        "for name in ada bob; do loginctl terminate-user $name || true; userdel --force --remove $name || true; done;"
        f"rm -rf {CODE} /var/lib/ds01/notices-test.* /etc/systemd/system/ds01-notices-test.service",
        check=False,
    )


def unit() -> str:
    """The service of the timer as the role writes it, with another program in it."""
    role = ROOT / "roles/timers"
    jobs = yaml.safe_load((role / "defaults/main.yml").read_text())["timers_jobs"]
    (job,) = [job for job in jobs if job["name"] == "notices"]
    # As Ansible reads templates.
    loader = jinja2.FileSystemLoader(role / "templates/etc/systemd/system")
    template = jinja2.Environment(loader=loader, trim_blocks=True, autoescape=False)  # noqa: S701 - no web page
    lines = template.get_template("ds01-enforce.service.j2").render(item=job).splitlines()
    own = {"ExecStart": f"/usr/bin/python3 {CODE}/driver.py", "StandardOutput": f"file:{CODE}/said"}
    kept = [line for line in lines if line.partition("=")[0] not in {"ExecStart", "ConditionPathExists"}]
    place = kept.index("[Service]") + 1
    return "\n".join((*kept[:place], *(f"{key}={value}" for key, value in own.items()), *kept[place:])) + "\n"


class Login:
    """Somebody who is logged in by ssh, with a terminal."""

    def __init__(self, host: LabHost, user: str, name: str) -> None:
        self.host, self.path = host, f"{CODE}/{name}"
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        host.sh(
            f"mkfifo {self.path}.in; : >{self.path}.out; setsid sh -c 'exec 3<>{self.path}.in;"
            f" exec ssh -tt -i {CODE}/key {options} {user}@localhost <&3 >{self.path}.out 2>&1' >/dev/null 2>&1 &"
        )
        self.type(f"tty >{name}.tty && mv {name}.tty {name}.ready")
        self.terminal = until(lambda: host.sh(f"cat /home/{user}/{name}.ready 2>/dev/null || true").strip())

    def type(self, line: str) -> None:
        self.host.write(f"{CODE}/line", f"{line}\n")
        self.host.sh(f"cat {CODE}/line >{self.path}.in")

    def shows(self) -> str:
        return self.host.run("cat", f"{self.path}.out").stdout


def until(found: Callable[[], Any]) -> Any:
    """Wait for a fact."""
    deadline = time.monotonic() + WAIT_S
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return value


@pytest.fixture(scope="module")
def ada(host: LabHost) -> Login:
    return Login(host, "ada", "ada1")


@pytest.fixture(scope="module")
def bob(host: LabHost) -> Login:
    return Login(host, "bob", "bob1")


def send(host: LabHost, *tell: tuple[int, str], containers: tuple[tuple[str, int], ...] = ()) -> list[str]:
    """One pass of the timer's service; what it said."""
    host.write(f"{CODE}/wish.json", json.dumps({"tell": tell, "containers": containers}))
    # However often it was started within ten seconds.
    host.sh("systemctl reset-failed ds01-notices-test || :")
    host.sh(f"rm -f {CODE}/said; systemctl start ds01-notices-test || {{ journalctl -u ds01-notices-test; false; }}")
    return host.sh(f"cat {CODE}/said").splitlines()


def test_who_is_logged_in_reads_it_and_nobody_else(host: LabHost, ada: Login, bob: Login) -> None:
    second = Login(host, "ada", "ada2")
    assert "terminal: told ada: warning: job" in send(host, (4811, "for \x1b[31m\rada"))
    for login in (ada, second):
        until(lambda login=login: "warning: job: for ?[31m?ada" in login.shows())
    send(host, (4812, "for bob alone"))
    until(lambda: "for bob alone" in bob.shows())
    assert "ada" not in bob.shows()
    assert "bob" not in ada.shows()
    # The administrators, of whom bob is one.
    send(host, (0, "a GPU is ill"))
    until(lambda: "a GPU is ill" in bob.shows())
    assert "a GPU is ill" not in ada.shows()
    # Everything came once, though passes went on.
    assert send(host) == []
    assert [login.shows().count("for ?[31m") for login in (ada, second, bob)] == [1, 1, 0]


def test_mesg_n_is_respected_and_a_stopped_terminal_keeps_nobody_waiting(host: LabHost, ada: Login, bob: Login) -> None:
    # What `mesg n` does, which not every host has.
    ada.type("chmod g-w $(tty) && touch is-silent")
    until(lambda: host.run("test", "-e", "/home/ada/is-silent", check=False).returncode == 0)
    ada2 = host.sh("cat /home/ada/ada2.ready 2>/dev/null || true").strip()
    stop = "import os, sys, termios; termios.tcflow(os.open(sys.argv[1], os.O_WRONLY | os.O_NOCTTY), termios.TC{})"
    stopped = [one for one in (ada2, bob.terminal) if one]
    for terminal in stopped:
        host.run("python3", "-c", stop.format("OOFF"), terminal)
    # It ends although it can write to none of them, and they are not given it later.
    said = send(host, (4811, "silence"), (4812, "full stop"))
    assert "terminal: ada was not told: no terminal takes messages" in said
    assert "terminal: bob was not told: no terminal takes messages" in said
    for terminal in stopped:
        host.run("python3", "-c", stop.format("OON"), terminal)
    ada.type("chmod g+w $(tty) && touch listens")
    until(lambda: host.run("test", "-e", "/home/ada/listens", check=False).returncode == 0)
    send(host, (4811, "after"), (4812, "afterwards"))
    until(lambda: "after" in ada.shows())
    until(lambda: "afterwards" in bob.shows())
    assert "silence" not in ada.shows()
    assert "full stop" not in bob.shows()


def test_terminals_in_containers_get_it_and_no_link_leads_out_of_them(host: LabHost, bob: Login) -> None:
    run = "docker run --detach --tty --name"
    # Its init changes into a directory whose terminals are those of the host, if links are followed.
    jail = (
        "mkdir -p /jail/dev /jail/bin; ln -s /dev/pts /jail/dev/pts; cp /bin/busybox /jail/bin/;"
        " exec chroot /jail /bin/busybox sleep 10000"
    )
    own = host.sh(f"{run} own ds01-lab/base sleep 10000").strip()
    trick = host.sh(f"{run} trick ds01-lab/base sh -c '{jail}'").strip()
    # The terminals of the host, bound by somebody who may.
    bound = host.sh(f"{run} bound --volume /dev/pts:/dev/pts ds01-lab/base sleep 10000 || true").strip()
    other = host.sh(f"{run} other ds01-lab/base sleep 10000").strip()
    silent = host.sh("docker run --detach --name silent ds01-lab/base sleep 10000").strip()
    pid = host.sh("docker inspect --format '{{.State.Pid}}' trick").strip()
    until(lambda: host.sh(f"readlink /proc/{pid}/cwd /proc/{pid}/root || true").count("jail"))
    mine = [(one, 4811) for one in (own, trick, silent, bound.splitlines()[-1] if bound else own)]
    before = bob.shows()
    assert "container: told ada: warning: job" in send(host, (4811, "inside"), containers=(*mine, (other, 4812)))
    until(lambda: "warning: job: inside" in host.sh("docker logs own"))
    assert "inside" not in host.sh("docker logs trick; docker logs other; docker logs silent")
    assert bob.shows() == before
    host.sh("docker rm --force own >/dev/null")
    assert "container: ada was not told: no terminal is open in a container" in send(host, (4811, "nobody"))
