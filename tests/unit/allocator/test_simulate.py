"""The what-if: deterministic, complete, by the same decisions as production."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ds01.allocator.request import Request
from ds01.allocator.simulate.jobs import DAY_MS, HOUR_MS, Job, generated, read, recorded, written
from ds01.allocator.simulate.lab import devices
from ds01.allocator.simulate.replay import replay
from ds01.allocator.simulate.report import lines
from ds01.cli.main import run
from ds01.ledger import Ledger
from ds01.problems import ReportedError
from tests.allocation import NOW, lab_policy
from tests.unit.allocator.conftest import Desk
from tests.unit.ledger.machine import Time

USERS = ("alice", "bob", "carol", "gina")
MIG = {"gpu_allocation": {"enable_mig": True, "mig_layout": {"0": ["2g.20gb"] * 3}}}


def job(hour: float, user: str = "alice", hours: float = 2, **asked: object) -> Job:
    return Job(int(hour * HOUR_MS), user, Request(**asked), int(hours * HOUR_MS))  # type: ignore[arg-type]


def outcomes(*jobs: Job, gpus: int = 1, **policy: object) -> list[tuple[str, str, float | None]]:
    people = lab_policy(**(policy or MIG))
    found = replay(jobs, people, devices(people.allocation, gpus, "A100-80GB"), NOW)
    return [(r.user, r.outcome, None if r.waited is None else r.waited / HOUR_MS) for r in found]


def test_devices_are_those_of_the_layout():
    found = devices(lab_policy(**MIG).allocation, 2, "A100-80GB")
    assert [(d.id, d.profile, d.memory_bytes >> 30) for d in found] == [
        ("0:0", "2g.20gb", 20),
        ("0:1", "2g.20gb", 20),
        ("0:2", "2g.20gb", 20),
        ("1", "full", 80),
    ]
    beyond = lab_policy(gpu_allocation={"enable_mig": True, "mig_layout": {"3": ["7g.80gb"]}}).allocation
    with pytest.raises(ReportedError, match="no such GPU among 1"):
        devices(beyond, 1, "A100-80GB")


def test_waiting_hold_and_quota_are_those_of_the_policy():
    # Three devices of 20 GB. Faculty gives them back at once, students hold theirs 15 minutes.
    carol = job(0, "carol", profile="2g.20gb")
    assert outcomes(job(0), job(0, "bob"), carol, job(1, "gina")) == [
        ("alice", "served", 0),
        ("bob", "served", 0),
        ("carol", "served", 0),
        ("gina", "served", 1),
    ]
    assert outcomes(job(0), job(0, "bob"), job(0, "gina"), job(1, "carol", profile="2g.20gb"))[-1] == (
        "carol",
        "served",
        1.25,
    )
    assert outcomes(job(0), job(0), job(0))[-1] == ("alice", "quota", None)
    assert outcomes(job(0, full=True)) == [("alice", "never possible", None)]


def test_whoever_waits_too_long_gives_up_and_long_jobs_are_cut():
    people = lab_policy(**MIG)
    lab = devices(people.allocation, 1, "A100-80GB")
    found = replay([*(job(0, user, hours=90) for user in USERS), job(1, "bob")], people, lab, NOW)
    assert Counter(result.outcome for result in found) == {"served": 4, "gave up": 1}
    assert {result.ran for result in found if result.outcome == "served" and result.cut} == {DAY_MS}
    whole = lines(found, lab, 7 * DAY_MS)[-1]
    assert (whole.asked, whole.served, whole.gave_up) == (5, 4, 1)
    assert 0 < whole.busy < 1


@pytest.mark.parametrize("seed", [1, 2])
def test_same_seed_same_week(seed: int):
    jobs = generated(USERS, 7, 20, seed)
    assert jobs == generated(reversed(USERS), 7, 20, seed)
    assert jobs != generated(USERS, 7, 20, seed + 1)
    people = lab_policy(**MIG)
    lab = devices(people.allocation, 2, "A100-80GB")
    found = replay(jobs, people, lab, NOW)
    assert found == replay(jobs, people, lab, NOW)
    assert len(found) == len(jobs), "each request has one outcome"
    plenty = devices({**people.allocation, "mig_layout": {}, "mig_profile": "2g.20gb"}, 64, "A100-80GB")
    assert all(not r.waited and r.outcome != "gave up" for r in replay(jobs, people, plenty, NOW))


def test_no_device_serves_two_at_once():
    people = lab_policy(**MIG)
    lab = devices(people.allocation, 1, "A100-80GB")
    jobs = generated([f"user{n}" for n in range(30)], 7, 10, 1)
    found = replay(jobs, people, lab, NOW)
    served = sum(result.ran * result.weight for result in found)
    # All work that was done fits in the time that there was, the last job's included.
    last = max(job.at for job in jobs) + 2 * DAY_MS
    assert 0 < served <= sum(device.weight for device in lab) * last


def test_requests_survive_their_file(tmp_path: Path):
    jobs = generated(USERS, 3, 20, 1)
    file = tmp_path / "jobs.jsonl"
    file.write_text(written(jobs))
    back = read(file)
    assert [(job.user, job.request) for job in back] == [(job.user, job.request) for job in jobs]
    assert all(abs(one.at - other.at) < 1000 for one, other in zip(jobs, back, strict=True))


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"hour": 1}',
        '{"hour": -1, "user": "a", "hours": 1}',
        '{"hour": 1, "user": "a", "hours": 1, "colour": 3}',
        '{"hour": 1, "user": "a", "hours": 1, "profile": "big"}',
        '{"hour": 1, "user": "a", "hours": 1, "profile": []}',
        '{"hour": 1, "user": "a", "hours": 1, "count": 1.5}',
        '{"hour": 1, "user": "a", "hours": 1, "devices": null}',
        '{"hour": 1e308, "user": "a", "hours": 1}',
        '{"hour": "x", "user": "a", "hours": 1}',
        "[" * 100_000,
        "\xff\udcff",
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str):
    file = tmp_path / "jobs.jsonl"
    file.write_text(f'\n{{"hour": 1, "user": "a", "hours": 1}}\n{line}\n', errors="surrogateescape")
    with pytest.raises(ReportedError, match=r"jobs\.jsonl:3: .*write lines like") as caught:
        read(file)
    assert len(str(caught.value)) < 400


def test_requests_of_this_host(desk: Desk, ledger: Ledger, time: Time):
    for name, request, minutes in (("alice", Request(count=2), 90), ("bob", Request.named(["1:2"]), 30)):
        answer = desk.allocator.allocate(desk.who(name), request)
        desk.allocator.bind(answer.token, f"c-{name}", name)
        desk.allocator.start(answer.token)
        time.spend(minutes * 60_000)
        desk.allocator.stop(answer.token)
        desk.allocator.close(answer.token)
    with ledger.read() as view:
        found = recorded(view, 7)
    assert [(job.user, job.request.count, job.request.devices, job.lasts) for job in found] == [
        ("alice", 2, (), 90 * 60_000),
        ("bob", 1, (), 30 * 60_000),
    ]


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str, object], str]:
    def write(name: str, layout: object) -> str:
        file = tmp_path / f"{name}.yaml"
        group = {"members": [f"user{n:02}" for n in range(40)], "max_gpu_equivalents": 1}
        allocation = {"enable_mig": True, "mig_layout": layout}
        sections = {"default_group": "student", "groups": {"student": group}, "gpu_allocation": allocation}
        file.write_text(yaml.safe_dump(sections))
        return str(file)

    return write


def test_command_compares_two_layouts(policy, capfd, tmp_path: Path):
    few = policy("few", {0: ["3g.40gb", "3g.40gb"], 1: ["3g.40gb", "3g.40gb"]})
    many = policy("many", {0: ["1g.10gb"] * 7, 1: ["1g.10gb"] * 7})
    saved = str(tmp_path / "jobs.jsonl")
    assert run(["simulate", few, many, "--gpus", "2", "--json", "--save-jobs", saved]) == 0
    found = {Path(path).stem: lines[-1] for path, lines in json.loads(capfd.readouterr().out).items()}
    assert found["few"]["asked"] == found["many"]["asked"] > 50
    assert found["few"]["waited_95"] > found["many"]["waited_95"]
    assert run(["simulate", few, "--gpus", "2", "--jobs", saved]) == 0
    assert "GROUP" in capfd.readouterr().out
    assert run(["simulate", few, "--load", "0"]) == 2
    assert "no requests" in capfd.readouterr().err


def test_saved_requests_are_whole_or_not_there(policy, capfd, tmp_path: Path):
    few = policy("few", {0: ["3g.40gb"]})
    saved, other = tmp_path / "jobs.jsonl", tmp_path / "other"
    saved.write_text("of before")
    other.symlink_to(saved)
    command = ["simulate", few, "--gpus", "1", "--days", "1", "--save-jobs"]
    for place in (str(other), "/dev/null", "/dev/stdout"):
        assert run([*command, place]) == 2
        assert f"{place} is no ordinary file" in capfd.readouterr().err
    assert run([*command, str(tmp_path)]) == 2
    # What could not be written whole is not there at all.
    program = "import sys; from ds01.cli.main import run; sys.exit(run(sys.argv[1:]))"
    argv = ["prlimit", "--fsize=100", sys.executable, "-c", program, *command, str(saved)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, "File too large" in done.stderr) == (1, True)
    assert (saved.read_text(), sorted(tmp_path.glob("*jobs*"))) == ("of before", [saved])
    assert run([*command, str(saved)]) == 0
    assert read(saved)
