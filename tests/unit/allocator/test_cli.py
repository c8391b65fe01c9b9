"""The commands, on a real ledger file: GPU 0 is whole, GPU 1 has three MIG devices."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from icalendar import Calendar

from ds01 import events
from ds01.cli.main import run
from ds01.ledger.leases import bind, start

# Names that every Debian has.
POLICY = {
    "default_group": "student",
    "defaults": {"max_gpu_equivalents": 1, "max_mig_instances": 2, "max_gpus_per_container": 2},
    "groups": {"student": {"members": ["games", "mail"]}, "faculty": {"members": ["daemon"], "allow_full_gpu": True}},
}
Ds01 = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ds01(path: Path, tmp_path: Path, monkeypatch, capfd) -> Ds01:
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "journal")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def call(*arguments: str, code: int = 0) -> tuple[int, str, str]:
        found = run([*arguments, "--policy", str(policy), "--ledger", str(path)])
        out, err = capfd.readouterr()
        assert found == code, (out, err)
        return found, out, err

    return call


def data(ds01: Ds01, *arguments: str, code: int = 0) -> Any:
    return json.loads(ds01(*arguments, "--json", code=code)[1])


def allocated(ds01: Ds01, *arguments: str) -> str:
    return str(data(ds01, "gpu", "allocate", *arguments)["token"])


def test_allocate_shows_and_release_gives_back(ds01: Ds01):
    _, out, _ = ds01("gpu", "allocate", "games")
    assert out.startswith("1:0 (2g.20gb)\n  token ")
    _, out, _ = ds01("gpu", "status")
    assert "1:0     2g.20gb  ok     games" in out
    token = data(ds01, "gpu", "status")["devices"][1]["holder"]["token"]
    assert data(ds01, "gpu", "release", token, "--dry-run")[0]["state"] == "released"
    assert data(ds01, "gpu", "release", token) == [{"device": "1:0", "state": "released", "hold_until": None}]
    assert all(device["holder"] is None for device in data(ds01, "gpu", "status")["devices"])


def test_dry_run_gives_nothing(ds01: Ds01):
    assert "1:0 (2g.20gb)" in ds01("gpu", "allocate", "games", "--dry-run")[1]
    assert all(device["holder"] is None for device in data(ds01, "gpu", "status")["devices"])


def test_refusal_says_everything_and_has_its_code(ds01: Ds01):
    allocated(ds01, "games", "--count", "2")
    _, _, err = ds01("gpu", "allocate", "games", code=3)
    assert err.splitlines() == [
        "refused (quota): games holds 2 of 2 GPU devices and asks for 1 more",
        "  rule: max_mig_instances: now 2, asked for 1, limit 2",
        "  who can help: an administrator (defaults.max_mig_instances in the policy)",
        err.splitlines()[3],
        "  fix: give one back first: you hold 1:0, 1:1",
    ]
    allocated(ds01, "mail")
    refused = data(ds01, "gpu", "allocate", "daemon", "--profile", "2g.20gb", code=4)["refused"]
    assert refused["kind"] == "capacity"
    assert refused["frees_at"]
    assert set(refused) >= {"message", "rule", "current", "requested", "limit", "fix"}
    _, _, err = ds01("gpu", "allocate", "mail", "--full", code=3)
    assert "  rule: allow_full_gpu: asked for 1 full GPU, limit MIG devices only" in err.splitlines()


def test_why_names_each_obstacle_and_gives_nothing(ds01: Ds01):
    allocated(ds01, "games")
    _, out, err = ds01("gpu", "why", "mail", "--device", "1:0", code=4)
    assert out.splitlines()[1] == "  1:0: games holds 1:0"
    assert "refused (capacity)" in err
    assert data(ds01, "gpu", "why", "mail")["devices"] == {
        "0": "0 is a full GPU",
        "1:0": "games holds 1:0",
        "1:1": None,
        "1:2": None,
    }


def test_queue_is_shown_and_left(ds01: Ds01):
    tokens = [allocated(ds01, "games", "--count", "2"), allocated(ds01, "mail")]
    queued = data(ds01, "gpu", "allocate", "daemon", "--profile", "2g.20gb", "--wait", "2h")
    assert queued["position"] == 1
    assert "daemon" in ds01("gpu", "queue")[1]
    assert data(ds01, "gpu", "queue")[0]["number"] == queued["queued"]
    assert "waiting 1: daemon" in ds01("gpu", "status")[1]
    ds01("gpu", "queue", "--cancel", str(queued["queued"]))
    ds01("gpu", "queue", "--cancel", str(queued["queued"]), code=5)
    assert "nobody waits" in ds01("gpu", "queue")[1]
    assert tokens


def test_user_status(ds01: Ds01):
    token = allocated(ds01, "games")
    found = data(ds01, "gpu", "user-status", "games")
    assert found["quotas"]["max_mig_instances"] == [1, 2]
    assert f"holds 1:0 (2g.20gb): no container yet, token {token}" in ds01("gpu", "user-status", "games")[1]


def test_drain_and_its_undoing(ds01: Ds01):
    allocated(ds01, "games")
    assert ds01("gpu", "drain", "1", "--reason", "new fan")[1].splitlines() == [
        "1:0: drained; games still has it",
        "1:1: drained",
        "1:2: drained",
    ]
    assert "is being drained (new fan)" in ds01("gpu", "allocate", "mail", code=4)[2]
    assert "1:0 of games" in ds01("gpu", "validate", code=1)[1]
    ds01("gpu", "drain", "1", "--undo")
    assert ds01("gpu", "validate")[1] == "ok: 4 devices, 1 with a lease\n"
    ds01("gpu", "drain", "7", code=5)


def test_reservations(ds01: Ds01):
    window = ("--from", "2099-01-01T08:00", "--for", "8h")
    assert "1:1 for mail: would be reserved" in ds01("gpu", "reserve", "1:1", "--user", "mail", *window, "--dry-run")[1]
    number = data(ds01, "gpu", "reserve", "1:1", "--user", "mail", *window, "--reason", "talk")["number"]
    _, _, err = ds01("reservation", "add", "1:1", "--group", "faculty", *window, code=3)
    assert "reserved for mail from 2099-01-01 08:00 UTC to 2099-01-01 16:00 UTC" in err
    _, _, err = ds01("gpu", "reserve", "--group", "faculty", "--count", "4", *window, code=3)
    assert "only 3 of the 4 devices are free then: reserved for mail from" in err
    assert "mail" in ds01("reservation", "list")[1]
    assert data(ds01, "reservation", "list")[0]["devices"] == ["1:1"]
    assert [
        str(event["SUMMARY"]) for event in Calendar.from_ical(ds01("reservation", "calendar")[1]).walk("VEVENT")
    ] == ["GPU 1:1: mail"]
    ds01("reservation", "cancel", str(number))
    ds01("reservation", "cancel", str(number), code=5)
    assert "nothing is reserved" in ds01("reservation", "list")[1]


def test_stopped_marks(ds01: Ds01, ledger):
    token = allocated(ds01, "games")
    with ledger.transaction() as tx:
        bind(tx, token, "c1", "job._.5")
        start(tx, token)
    assert ": job runs on it" in ds01("gpu", "release", "job._.5", code=3)[2]
    assert "would stop: 1:0, kept until" in ds01("gpu", "mark-stopped", "job._.5", "--dry-run")[1]
    assert "stopped: 1:0, kept until" in ds01("gpu", "mark-stopped", "job._.5")[1]
    assert "nothing to do" in ds01("gpu", "mark-stopped", "job._.5")[1]
    assert "1:0 (2g.20gb)" in ds01("gpu", "clear-stopped", "job._.5")[1]
    ds01("gpu", "mark-stopped", "job._.5")
    assert ds01("gpu", "release", "job._.5")[1] == "released: 1:0\n", "whatever it was kept until before"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["gpu", "allocate", "nobody-of-that-name"], 5, "nobody here has that name"),
        (["gpu", "allocate", "games", "--count", "many"], 2, "write a number of devices, or all"),
        (["gpu", "allocate", "games", "--device", "0:1", "--count", "2"], 2, "leave out --count"),
        (["gpu", "allocate", "games", "--device", "x"], 2, "write a device like 0"),
        (["gpu", "allocate", "games", "--profile", "big"], 2, "write a MIG profile"),
        (["gpu", "allocate", "games", "--memory", "20"], 2, "add the unit"),
        (["gpu", "allocate", "games", "--wait", "2"], 2, "add the unit"),
        (["gpu", "release", "no-such"], 5, "no container with GPUs has that name"),
        (["gpu", "reserve", "0", "--for", "1h"], 2, "either --user or --group"),
        (["gpu", "reserve", "0", "--group", "nobody", "--for", "1h"], 2, "there are faculty, student"),
        (["gpu", "reserve", "0", "--group", "faculty", "--from", "soon", "--for", "1h"], 2, "write a time like"),
        (["gpu", "reserve", "0", "--group", "faculty", "--from", "2020-01-01", "--for", "1h"], 2, "over already"),
        (["gpu", "reserve", "0", "--group", "faculty", "--from", "2099-01-01", "--for", "0h"], 2, "write more than 0"),
        (
            ["gpu", "reserve", "0", "--group", "faculty", "--count", "2", "--for", "1h"],
            2,
            "name as many devices, or none",
        ),
        (["gpu", "reserve", "--group", "faculty", "--count", "99", "--for", "1h"], 3, "this server has 4\n"),
        (["gpu", "reserve", "0", "--group", "faculty", "--from", "9999-12-31", "--for", "9d"], 2, "a hundred years"),
        (["gpu", "allocate", "games", "--token", "UPPER"], 2, "as an earlier answer gave it"),
    ],
)
def test_wrong_use_says_how_to_mend_it(ds01: Ds01, arguments: list[str], code: int, text: str):
    assert text in ds01(*arguments, code=code)[2]


@pytest.mark.parametrize("command", [["gpu", "drain", "0"], ["simulate", "--recorded", "POLICY"]])
def test_only_root_uses_the_ledger_of_the_host(monkeypatch, capfd, tmp_path: Path, command: list[str]):
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run([str(policy) if word == "POLICY" else word for word in command]) == 1
    assert "only root may use the ledger of this host: run the command with sudo" in capfd.readouterr().err


def test_missing_ledger_is_one_sentence(ds01: Ds01, path: Path):
    path.unlink()
    assert "there is no ledger" in ds01("gpu", "status", code=1)[2]
    assert "there is no ledger" in ds01("gpu", "allocate", "games", code=1)[2]
