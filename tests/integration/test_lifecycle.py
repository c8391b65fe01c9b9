"""Containers of a real engine end as the policy says, while hours pass in seconds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import prometheus_client
import pynvml
import pytest

from ds01.policy import load_policy
from lab.testhost import LabHost

CODE = "/root/ds01-lifecycle-test"
POLICY = """
default_group: student
defaults: {idle_timeout: 20m, max_runtime: 10h, container_hold_after_stop: 1h}
groups: {student: {members: [ada]}}
container_types: {docker: {idle_timeout: 20m, max_runtime: 10h, sigterm_grace: 10s}}
policies: {grace_period: 5m, runtime_warn_at: [0.75, 0.9], extend_max_duration: 2h, keepalive_max_duration: 2h}
monitoring: {sample_interval: 90s}
"""
# All jobs read one clock: the real one, and what the test adds to it; and one boot, which a test may let be another.
DRIVER = f"""
import json, sys, time
sys.path.insert(0, "{CODE}")
from pathlib import Path
from ds01 import events
from ds01.engine.api import Engine
from ds01.gpu.nvml import Session
from ds01.ledger import Ledger, Moment, create, system_clock
from ds01.ledger import lifecycle as table
from ds01.ledger import permits
from ds01.lifecycle import asked, passes
from ds01.monitor import sampler
from ds01.monitor.history import History
from ds01.problems import ReportedError

here = Path("{CODE}")
wish = json.loads(sys.stdin.read())
kept = json.loads((here / "added").read_text()) if (here / "added").exists() else {{"ms": 0, "wall": 0, "boot": ""}}
if "boot" in wish:
    # The engine's times are the real ones, and so is the clock after a reboot.
    kept = {{"ms": 0, "wall": 0, "boot": wish["boot"]}}
added = kept["ms"]
if "wall" in wish:
    kept["wall"] = wish["wall"] - system_clock().wall_ms - added

def clock():
    now = system_clock()
    return Moment(now.wall_ms + added + kept["wall"], now.boot + kept["boot"], now.boot_ms + added)

tables = json.loads((here / "tables.json").read_text())
tables["policies"] |= wish.get("policies", {{}})
ledger, samples = here / "ledger.db", here / "samples.db"
create(ledger)
place = passes.Place(ledger=ledger, history=samples, tables=lambda _: tables, clock=clock, patience_s=0)
looks = sampler.Sampler(Session(), sampler.Place(ledger=ledger, tables=lambda _: tables), clock=clock)
history = History(samples)
said = []
try:
    if "exempt_ms" in wish:
        with Ledger(ledger, clock=clock) as opened, opened.transaction() as tx:
            permits.add(tx, "exemptions", uid=4801, user="ada", kind="idle_timeout", reason="a deadline",
                        approved_by="root", expires=tx.now + wish["exempt_ms"])
    for number in range(wish.get("steps", 0)):
        added += wish["step_s"] * 1000
        time.sleep(wish.get("pause_s", 0))
        if wish["job"] in {{"idle", "everything"}}:
            history.add(looks.take())
        outcome = getattr(passes, wish["job"])(place, dry_run=wish.get("dry_run", False))
        said += [[number + 1, line] for line in (*outcome.lines, *outcome.problems)]
        if len(said) >= wish.get("until", 1000):
            break
    with Ledger(ledger, clock=clock) as opened:
        if "ask" in wish:
            do = getattr(asked, wish["ask"])
            got = do(opened, tables, Engine(), wish["name"], wish["ms"])
            said.append([0, got._asdict()])
        with opened.read() as view:
            why = {{}}
            for name in wish.get("why", ()):
                why[name] = asked.why(view, tables, Engine(), name)
            notices = [[one.kind, one.subject] for one in table.notices(view, 4801)]
except ReportedError as error:
    said, why, notices = [[0, f"error: {{error}}"]], {{}}, []
(here / "added").write_text(json.dumps(kept | {{"ms": added}}))
print(json.dumps({{"said": said, "why": why, "notices": notices}}))
"""
# The command of root, with the tables of the policy instead of its file: this host has no validator.
COMMAND = f"""
import json, sys
sys.path.insert(0, "{CODE}")
from ds01.policy import cache
cache.load_tables = lambda _: json.load(open("{CODE}/tables.json"))
from ds01.cli.main import run
sys.exit(run(["stop-all", "--ledger", "{CODE}/ledger.db", *sys.argv[1:]]))
"""
# A program that saves its work when it is asked to end.
SAVES = "trap 'echo saved; exit 0' TERM; while :; do sleep 0.2; done"
RUN = "docker run --detach --label ds01.managed=true --name"
# The kernel lets the first process of a container be asked to end only if it listens.
QUICK = f"{RUN.removesuffix(' --name')} --stop-signal KILL --name"
DEVICE = "--device /dev/nvidia"
# However often it was started within a minute.
START = "systemctl reset-failed docker.socket docker.service; systemctl start docker.socket docker.service"
SLEEP = "ds01-lab/base sleep"


@pytest.fixture(scope="module")
def host(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    lab_host.run("mkdir", "-p", CODE)
    for source in ("src/ds01", pynvml.__file__, *(Path(one.__file__).parent for one in (click, prometheus_client))):
        lab_host.copy(source, f"{CODE}/{Path(source).name}")
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    lab_host.write(f"{CODE}/tables.json", json.dumps(load_policy(policy).policy.tables))
    lab_host.write(f"{CODE}/driver.py", DRIVER)
    lab_host.write(f"{CODE}/command.py", COMMAND)
    lab_host.sh(
        "id ada 2>/dev/null || useradd --uid 4801 --create-home ada; mkdir -p /run/ds01 /etc/docker;"
        """echo '{"exec-opts": ["native.cgroupdriver=systemd"], "live-restore": true}' >/etc/docker/daemon.json;"""
        "systemctl reset-failed docker; systemctl restart docker"
    )
    yield lab_host
    lab_host.sh(
        "docker ps -aq | xargs -r docker rm --force >/dev/null; userdel --remove ada;"
        f"rm -rf {CODE} /etc/docker/daemon.json; systemctl reset-failed docker; systemctl restart docker"
    )


@pytest.fixture(autouse=True)
def nothing_left(host: LabHost) -> Iterator[None]:
    yield
    host.sh(
        f"docker ps -aq | xargs -r docker rm --force >/dev/null; rm -f {CODE}/ledger.* {CODE}/samples.* {CODE}/added"
    )


def go(
    host: LabHost, job: str = "", steps: int = 0, step_s: int = 60, *, zone: str = "UTC", **more: Any
) -> dict[str, Any]:
    wish = json.dumps({"job": job, "steps": steps, "step_s": step_s, **more})
    found: dict[str, Any] = json.loads(
        host.run("env", f"TZ={zone}", "python3", f"{CODE}/driver.py", stdin=wish.encode()).stdout
    )
    return found


def dump(host: LabHost) -> str:
    """All that the ledger says."""
    program = f"import sqlite3; print(*sqlite3.connect('{CODE}/ledger.db').iterdump(), sep='\\n')"
    return host.run("python3", "-c", program).stdout


def said(found: dict[str, Any]) -> list[tuple[int, str, str]]:
    """At which step which container was warned, stopped or removed."""
    lines = [(step, line.split()) for step, line in found["said"]]
    return [(step, words[1].partition("._.")[0], words[4].rstrip(":")) for step, words in lines]


def state(host: LabHost, name: str) -> tuple[str, int]:
    text = host.sh(f"docker inspect --format '{{{{.State.Status}}}} {{{{.State.ExitCode}}}}' {name}").split()
    return text[0], int(text[1])


def test_the_idle_one_is_warned_twice_and_stopped_and_the_busy_one_is_not(host: LabHost) -> None:
    host.run(*RUN.split(), "idle._.4801", "--device", "/dev/nvidia0", "ds01-lab/base", "sh", "-c", SAVES)
    host.sh(f"{RUN} busy._.4801 --device /dev/nvidia1 ds01-lab/base sleep 4901")
    host.sh(f"{RUN} cpu._.4801 ds01-lab/base sleep 4902")
    host.sh("nvmlsim attach 1 $(until pgrep --full '^sleep 4901$'; do sleep 0.1; done) --load 100")
    steps = said(go(host, "idle", 28))
    assert [(name, what) for _, name, what in steps] == [("idle", "warned"), ("idle", "warned"), ("idle", "stopped")]
    # At 80, 95 and 100 % of its 20 minutes, after 5 minutes of grace, and never more than two minutes late.
    assert all(due <= step <= due + 2 for (step, _, _), due in zip(steps, (21, 24, 25), strict=True)), steps
    assert state(host, "idle._.4801") == ("exited", 0)
    assert "saved" in host.sh("docker logs idle._.4801")
    assert {state(host, name)[0] for name in ("busy._.4801", "cpu._.4801")} == {"running"}
    why = go(host, why=["idle._.4801", "busy._.4801"])
    assert why["why"]["idle._.4801"]["ended"]["rule"] == "idle_timeout"
    assert why["why"]["busy._.4801"]["ended"] is None
    assert why["notices"] == [["warning", "idle._.4801"]] * 2 + [["stopped", "idle._.4801"]]
    events = [json.loads(line) for line in host.sh("cat /var/log/ds01/events.jsonl").splitlines()]
    kinds = [event["type"] for event in events if event["subject"]["name"] == "idle._.4801"]
    assert kinds == ["lifecycle.warn", "lifecycle.warn", "lifecycle.stop"]


def test_nobody_is_stopped_by_what_is_not_known(host: LabHost) -> None:
    host.sh(f"{RUN} blind._.4801 --device /dev/nvidia2 ds01-lab/base sleep 4911")
    assert said(go(host, "idle", 18)) == []
    host.sh("nvmlsim driver unload")
    try:
        assert said(go(host, "idle", 4)) == []
    finally:
        host.sh("nvmlsim driver load")
    # The evidence begins anew: 15 minutes of it are not enough.
    assert said(go(host, "idle", 15)) == []
    assert [what for _, _, what in said(go(host, "idle", 3))] == ["warned"]
    kept = go(host, ask="keep", name="blind._.4801", ms=90 * 60_000)
    assert kept["said"][0][1]["left"] == 30 * 60_000
    assert said(go(host, "idle", 25)) == []
    refused = go(host, ask="keep", name="blind._.4801", ms=180 * 60_000)
    assert "is left" in refused["said"][0][1]
    assert state(host, "blind._.4801")[0] == "running"
    # A look with nobody watching in between: hours without samples are a gap, not idleness.
    assert said(go(host, "idle", 3, step_s=4 * 3600)) == []


def test_restarts_gain_no_time_and_an_extension_does(host: LabHost) -> None:
    host.sh(f"{RUN} long._.4801 ds01-lab/base sh -c '{SAVES.replace(chr(39), chr(34))}'")
    assert said(go(host, "runtime", 14, 1800)) == []
    host.sh("docker restart --time 1 long._.4801")
    assert said(go(host, "runtime", 2, 1800)) == [(1, "long", "warned")]
    host.sh("docker restart --time 1 long._.4801")
    assert said(go(host, "runtime", 4, 1800)) == [(2, "long", "warned"), (4, "long", "stopped")]
    assert state(host, "long._.4801") == ("exited", 0)
    host.sh("docker start long._.4801")
    assert said(go(host, "runtime", 1, 60)) == [(1, "long", "stopped")]
    assert go(host, ask="extend", name="long._.4801", ms=2 * 3_600_000)["said"][0][1]["left"] == 0
    host.sh("docker start long._.4801")
    assert [what for _, _, what in said(go(host, "runtime", 1, 60))] == ["warned"]
    assert "is left" in go(host, ask="extend", name="long._.4801", ms=1000)["said"][0][1]
    assert go(host, why=["long._.4801"])["why"]["long._.4801"]["ended"] is None


def test_what_nobody_starts_again_is_removed_and_nothing_else(host: LabHost) -> None:
    host.sh(
        f"{RUN} old._.4801 --volume kept:/data ds01-lab/base true; docker wait old._.4801 >/dev/null;"
        f"{RUN} works._.4801 --restart unless-stopped ds01-lab/base sleep 4921;"
        "docker run --name nobodys ds01-lab/base true;"
        "docker create --label ds01.managed=true --name never._.4801 ds01-lab/base true >/dev/null"
    )
    # Each is told at half of its time: 15 minutes of 30, half an hour of one. What passes here besides counts, too.
    assert said(go(host, "cleanup", 1, 60)) == []
    assert said(go(host, "cleanup", 1, 910)) == [(1, "never", "warned")]
    assert said(go(host, "cleanup", 1, 300)) == []
    (line,) = [line for line in go(host, "cleanup", 1, 630, dry_run=True)["said"] if "never" in line[1]]
    assert line[1].startswith("container never._.4801 of ada: would be removed: ")
    assert sorted(said(go(host, "cleanup", 1, 60))) == [(1, "never", "removed"), (1, "old", "warned")]
    host.sh("systemctl stop docker.socket docker.service")
    try:
        assert "no answer from the engine" in go(host, "cleanup", 1, 900)["said"][0][1]
    finally:
        host.sh(START)
    rehearsal = go(host, "cleanup", 1, 900, policies={"policies.rehearse": True})
    assert ["old._.4801 of ada: would be removed" in line for _, line in rehearsal["said"]] == [True]
    assert said(go(host, "cleanup", 1, 60)) == [(1, "old", "removed")]
    assert host.sh("docker ps --all --format '{{.Names}}'").split() == ["nobodys", "works._.4801"]
    assert "kept" in host.sh("docker volume ls --quiet")
    assert said(go(host, "cleanup", 3, 3600)) == []


def test_a_dry_run_says_what_would_be_done_and_does_none_of_it(host: LabHost) -> None:
    host.sh(
        f"{QUICK} idle._.4801 {DEVICE}0 {SLEEP} 4925; {QUICK} over._.4801 {SLEEP} 4926;"
        f"{QUICK} old._.4801 ds01-lab/base true; docker wait old._.4801 >/dev/null"
    )
    assert said(go(host, "everything", 14)) == []

    def everything_kept() -> tuple[str, str, str]:
        events = host.sh("cat /var/log/ds01/events.jsonl 2>/dev/null || true")
        return dump(host), events, host.sh("docker ps --all --quiet --no-trunc")

    before = everything_kept()
    jobs = (("idle", 10, 60, {"idle"}), ("cleanup", 1, 1800, {"old"}), ("runtime", 1, 8 * 3600, {"idle", "over"}))
    for job, steps, step_s, names in jobs:
        found = go(host, job, steps, step_s, dry_run=True)
        assert {name for _, name, _ in said(found)} == names, found
        assert all("would be" in line for _, line in found["said"])
        assert everything_kept() == before, job
    assert [state(host, f"{name}._.4801")[0] for name in ("idle", "over", "old")] == ["running", "running", "exited"]


def test_half_busy_is_busy_and_no_label_helps_who_is_not(host: LabHost) -> None:
    pair = "--device /dev/nvidia0 --device /dev/nvidia1"
    forged = "--label ds01.protected=true --label ds01.uid=0 --label ds01.user=root"
    # Dev containers end no earlier than their owners' others: by the default of their type they are not stopped at all.
    forged += " --label devcontainer.local_folder=/home/ada/project"
    host.sh(
        f"{QUICK} half._.4801 {pair} ds01-lab/base sleep 4931; {QUICK} forged._.4801 {forged} {DEVICE}3 {SLEEP} 4932"
    )
    host.sh("nvmlsim attach 1 $(until pgrep --full '^sleep 4931$'; do sleep 0.1; done) --load 100")
    assert {name for _, name, _ in said(go(host, "idle", 26))} == {"forged"}
    assert (state(host, "half._.4801")[0], state(host, "forged._.4801")[0]) == ("running", "exited")
    # Once its second device is as idle as its first one, its time begins.
    host.sh("nvmlsim detach $(pgrep --full '^sleep 4931$')")
    assert said(go(host, "idle", 14)) == []
    assert [what for _, _, what in said(go(host, "idle", 8))] == ["warned", "warned", "stopped"]


def test_a_download_is_use_and_a_restart_is_none(host: LabHost) -> None:
    host.sh(f"{QUICK} loads._.4801 {DEVICE}0 {SLEEP} 4941; {QUICK} again._.4801 {DEVICE}1 {SLEEP} 4942")
    address = host.sh("docker inspect --format '{{.NetworkSettings.Networks.bridge.IPAddress}}' loads._.4801").strip()
    send = f"s.sendto(bytes(999), ('{address}', 9)); time.sleep(.003)"
    sender = f"import socket, time; s = socket.socket(2, 2)\nwhile 1: {send}"
    host.run("systemd-run", "--quiet", "--unit=life-sender", "python3", "-c", sender)
    threshold = {"policies": {"policies.network_idle_threshold": 3000}}
    try:
        assert said(go(host, "idle", 14, **threshold)) == []
        host.sh("docker restart --time 0 again._.4801")
        # Its idleness goes on, with the one grace that it had.
        steps = said(go(host, "idle", 14, **threshold))
        assert [(name, what) for _, name, what in steps] == [
            ("again", "warned"),
            ("again", "warned"),
            ("again", "stopped"),
        ]
        assert 9 <= steps[-1][0] <= 13, steps
    finally:
        host.sh("systemctl stop life-sender")
    assert {name for _, name, _ in said(go(host, "idle", 26, **threshold))} == {"loads"}


def test_on_a_mig_device_without_counters_only_who_sleeps_is_idle(host: LabHost) -> None:
    whole = "nvmlsim create A100-80 A100-80 A100-80 A100-80 --nodes"
    host.sh(f"{whole} --layout 0=3g.40gb --layout 1=3g.40gb")
    try:
        # A notebook whose kernel sleeps, and a program that works, on devices that say nothing of either.
        works = "sh -c 'while :; do :; done'"
        host.sh(f"{QUICK} notebook._.4801 {DEVICE}0 {SLEEP} 4951;{QUICK} works._.4801 {DEVICE}1 ds01-lab/base {works}")
        host.sh(
            "for one in notebook:0:0 works:1:0; do"
            " nvmlsim attach ${one#*:} $(docker inspect --format '{{.State.Pid}}' ${one%%:*}._.4801) --load 0; done"
        )
        # Only the GPU's signs: the CPU's would speak for the second by themselves. Between two looks it gets some.
        steps = said(go(host, "idle", 27, pause_s=0.2, policies={"policies.cpu_idle_threshold": None}))
        assert [what for _, name, what in steps if name == "notebook"] == ["warned", "warned", "stopped"]
        assert state(host, "works._.4801")[0] == "running"
    finally:
        host.sh(f"docker ps -aq | xargs -r docker rm --force >/dev/null; {whole}")


@pytest.mark.parametrize("ahead_days", [0, 400])
def test_an_exemption_ends_in_the_middle_and_nothing_is_done_twice(host: LabHost, ahead_days: int) -> None:
    """Also one that was given while the clock was far ahead."""
    host.sh(f"{QUICK} spared._.4801 {DEVICE}0 {SLEEP} 4961")
    now = int(host.sh("date +%s")) * 1000
    go(host, exempt_ms=40 * 60_000, wall=now + ahead_days * 86_400_000)
    assert said(go(host, "everything", 5, wall=now)) == []
    why = go(host, why=["spared._.4801"])["why"]["spared._.4801"]
    assert "a deadline" in why["exempt"]["idle_timeout"]
    steps = said(go(host, "everything", 45))
    first = steps[0][0]
    assert 25 <= first <= 36, "it counted for its 40 minutes, and no longer"
    # All warnings are still given, one with each pass.
    assert [(step - first, what) for step, _, what in steps] == [(0, "warned"), (1, "warned"), (2, "stopped")]
    before = go(host, why=["spared._.4801"])
    assert said(go(host, "everything", 3, 1)) == []
    assert go(host, why=["spared._.4801"]) == before
    assert len(before["notices"]) == 3


@pytest.mark.parametrize("night", [datetime(2026, 3, 29, 0, 50, tzinfo=UTC), datetime(2026, 10, 25, 0, 50, tzinfo=UTC)])
def test_an_engine_that_is_away_and_a_clock_that_changes_its_time(host: LabHost, night: datetime) -> None:
    """In Berlin, set to a night in which an hour is missing or comes twice: none of what passed is, or does."""
    berlin = {"zone": "Europe/Berlin"}
    host.sh(f"{QUICK} here._.4801 {DEVICE}0 {SLEEP} 4971")
    assert said(go(host, "everything", 2, **berlin)) == []
    change = int(night.timestamp() * 1000)
    assert said(go(host, "everything", 18, wall=change, **berlin)) == []
    steps = said(go(host, "everything", 9, until=2, **berlin))
    assert [what for _, _, what in steps] == ["warned", "warned"]
    host.sh("systemctl stop docker.socket docker.service")
    try:
        away = go(host, "everything", 1, **berlin)["said"]
        assert ["no answer from the engine" in line for _, line in away] == [True]
    finally:
        host.sh(START)
    assert state(host, "here._.4801")[0] == "running"
    assert [what for _, _, what in said(go(host, "everything", 2, **berlin))] == ["stopped"]
    why = go(host, why=["here._.4801"], **berlin)
    assert why["notices"] == [["warning", "here._.4801"]] * 2 + [["stopped", "here._.4801"]]
    assert 20 * 60 <= why["why"]["here._.4801"]["ran_s"] <= 40 * 60


def test_a_rehearsal_ends_nothing_tells_nobody_and_says_each_thing_once(host: LabHost) -> None:
    host.sh(
        f"{QUICK} idle._.4801 {DEVICE}0 {SLEEP} 4981; {QUICK} over._.4801 {SLEEP} 4982;"
        f"{QUICK} old._.4801 ds01-lab/base true; docker wait old._.4801 >/dev/null"
    )
    rehearse = {"policies": {"policies.rehearse": True}}
    found = said(go(host, "everything", 100, **rehearse)) + said(go(host, "everything", 12, 3600, **rehearse))
    told = Counter((name, what) for _, name, what in found)
    # That its owner would be told, and that it would go.
    assert all(count == 2 for (name, what), count in told.items() if name == "old"), told
    assert {name for name, _ in told} == {"idle", "over", "old"}
    assert sum(told.values()) <= 2 * 3 * 2 + 2, told
    assert [state(host, f"{name}._.4801")[0] for name in ("idle", "over", "old")] == ["running", "running", "exited"]
    assert go(host)["notices"] == []


def test_a_reboot_keeps_what_was_used_and_begins_the_evidence_anew(host: LabHost) -> None:
    # With an init: as the host goes down, systemd waits 90 seconds for a first process that does not listen.
    host.sh(f"{QUICK} back._.4801 --init --restart always {DEVICE}0 {SLEEP} 4991")
    assert said(go(host, "everything", 18)) == []
    assert said(go(host, "runtime", 1, 5 * 3600)) == []
    host.reboot()
    host.sh(
        "for _ in $(seq 600); do docker inspect back._.4801 | grep '\"Running\": true' && exit; sleep .1; done; exit 1"
    )
    # Nobody knows what it did while nobody looked: 15 minutes are no 20.
    assert said(go(host, "everything", 15, boot="-2")) == []
    assert [what for _, _, what in said(go(host, "everything", 12))] == ["warned", "warned", "stopped"]
    host.sh("docker start back._.4801")
    ran = go(host, why=["back._.4801"])["why"]["back._.4801"]["ran_s"]
    assert 5 * 3600 + 40 * 60 <= ran <= 6 * 3600 + 15 * 60, ran
    assert [what for _, _, what in said(go(host, "runtime", 3, 7200))] == ["warned", "warned", "stopped"]


def test_the_emergency_stop_takes_what_was_meant_with_its_grace_and_leaves_the_rest(host: LabHost) -> None:
    go(host)
    saves = SAVES.replace(chr(39), chr(34))
    deaf = "trap : TERM; while :; do sleep 0.2; done"
    host.sh(
        f"{RUN} polite._.4801 ds01-lab/base sh -c '{saves}'; {RUN} deaf._.4801 ds01-lab/base sh -c '{deaf}';"
        f"{RUN} still._.4801 --restart always ds01-lab/base sleep 4931; docker pause still._.4801;"
        "docker run --detach --name nobodys ds01-lab/base sleep 4932"
    )
    stop = f"python3 {CODE}/command.py"
    said = host.sh(f"{stop} --user ada --dry-run").splitlines()
    assert sorted(line.split()[3] for line in said) == ["deaf._.4801", "polite._.4801", "still._.4801"]
    assert host.run(*f"{stop} --all".split(), check=False).returncode == 2
    host.sh(f"echo 'stop 2' | script -qec '{stop} --all' /dev/null | grep 'nothing was stopped'")
    running = "docker ps --format '{{.Names}}' | sort"
    assert host.sh(running).split() == ["deaf._.4801", "nobodys", "polite._.4801", "still._.4801"]
    assert host.run(*f"{stop} --user nobody-here --yes".split(), check=False).returncode == 5
    done = host.sh(f"echo 'stop 3' | script -qec '{stop} --all --reason smoke' /dev/null")
    assert "left alone: container nobodys: nobody's" in done
    assert "stopped: 3 of 3" in done
    assert host.sh(running).split() == ["nobodys"]
    assert state(host, "polite._.4801") == ("exited", 0)
    assert state(host, "deaf._.4801") == ("exited", 137)
    event = json.loads(host.sh("grep stop-all /var/log/ds01/events.jsonl | tail -1"))
    assert (event["type"], event["decision"], event["actor"]["user"]) == ("lifecycle.stop", "stopped", "root")
    assert event["reason"] == "an administrator stopped it: smoke"
    assert ["stopped", "deaf._.4801"] in go(host)["notices"]
    again = json.loads(host.sh(f"{stop} --all --yes --json"))
    assert (again["stopped"], again["containers"], len(again["left_alone"])) == (False, [], 1)
