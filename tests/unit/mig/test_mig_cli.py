"""`ds01 mig`: what is printed, and the exit codes."""

from __future__ import annotations

import json
import os

import pytest
import yaml

from ds01.cli import main
from ds01.mig import saved

POLICY = "default_group: a\ndefaults: {max_mig_instances: 1}\ngroups: {a: {}}\n"


@pytest.fixture
def ds01(capfd, monkeypatch, tmp_path):
    """Run a command; returns exit code and what it printed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("ds01.policy.DEFAULT_PATH", str(tmp_path / "policy.yaml"))

    def run(*words: str) -> tuple[int, str, str]:
        code = main.run(["mig", *words])
        return code, *capfd.readouterr()

    def policy(allocation: str) -> None:
        (tmp_path / "policy.yaml").write_text(f"{POLICY}gpu_allocation: {allocation}\n")

    run.policy = policy
    return run


def config(tmp_path, *blocks: dict) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"version": "v1", "mig-configs": {"a": list(blocks)}}))
    return str(path)


def test_plan_apply_assert_and_export(ds01, make_host, tmp_path):
    host = make_host(["A100-80"] * 2, {1: ["7g.80gb"]})
    ds01.policy("{enable_mig: true, mig_layout: {0: [3g.40gb, 1g.10gb], 1: []}}")
    code, said, _ = ds01("plan")
    assert code == 0
    assert "GPU 0 (NVIDIA A100-SXM4-80GB): changes now, nobody is disturbed" in said
    assert "first    MIG mode is switched on" in said
    assert "goes     1:0 (7g.80gb@0)" in said
    assert ds01("assert")[0] == 1
    assert ds01("apply", "--dry-run")[0] == 0
    assert host.layout(0) == "whole"
    assert saved.load() == {}
    assert ds01("apply")[0] == 0
    assert (host.layout(0), host.layout(1)) == (["1g.10gb@6", "3g.40gb@0"], "whole")
    assert ds01("assert")[0] == 0
    code, said, _ = ds01("apply")
    assert (code, said.splitlines()[-1]) == (0, "Nothing had to be changed.")
    written = ds01("export", "--name", "mine")[1]
    (tmp_path / "written.yaml").write_text(written)
    assert yaml.safe_load(written)["mig-configs"]["mine"][0]["mig-devices"] == {"1g.10gb": 1, "3g.40gb": 1}
    assert ds01("assert", "--config", str(tmp_path / "written.yaml"))[0] == 0


def test_what_waits_has_its_own_exit_code_and_json_says_who(ds01, make_host, tmp_path):
    host = make_host(["A100-80"], {0: ["3g.40gb"]})
    process = host.use("0:0")
    path = config(tmp_path, {"devices": "all", "mig-enabled": True, "mig-devices": {"1g.10gb": 7}})
    code, said, _ = ds01("apply", "--config", path)
    assert code == 4
    assert f"process {process.pid}" in said
    assert said.splitlines()[-1] == "Done, but for what is in use: GPU 0. Run it again when that is free."
    code, said, _ = ds01("plan", "--config", path, "--json")
    [gpu] = json.loads(said)["gpus"]
    assert gpu["verdict"] == "waits"
    assert str(process.pid) in gpu["blockers"][0]["holders"][0]["what"]
    code, said, _ = ds01("apply", "--config", path, "--json")
    assert (code, json.loads(said)["changed"]) == (4, False)


def test_the_saved_layout_is_what_the_boot_unit_restores(ds01, make_host):
    host = make_host(["A100-80"])
    ds01.policy("{enable_mig: true, mig_profile: 2g.20gb}")
    assert ds01("apply")[0] == 0
    host.server.reboot()
    code, said, _ = ds01("apply", "--saved")
    assert code == 0
    assert said.count(" is now MIG-") == 3
    assert host.layout(0) == ["2g.20gb@0", "2g.20gb@2", "2g.20gb@4"]


@pytest.mark.parametrize(
    ("words", "allocation", "expected"),
    [
        (["apply"], "{enable_mig: true, mig_layout: {0: [1g.5gb]}}", (1, "did you mean 1g.10gb?")),
        (["apply"], "{enable_mig: true, mig_layout: {5: [1g.10gb]}}", (5, "5: a GPU of this host")),
        (["plan"], "{enable_mig: true, mig_layout: {5: []}}", (5, "none like that")),
        (["plan"], "{enable_mig: true, mig_layout: {0: [4g.40gb, 4g.40gb]}}", (1, "no room for 4g.40gb")),
        (["plan"], "{enable_mig: false}", (0, "nothing to do")),
        (["plan", "--name", "x"], "{}", (2, "belongs to --config")),
        (["apply", "--saved", "--config", "x"], "{}", (2, "choose one")),
        (["apply", "--config", "/nowhere"], "{}", (1, "/nowhere")),
    ],
)
def test_what_is_refused_says_why_and_changes_nothing(ds01, make_host, words, allocation, expected):
    host = make_host(["A100-80"], {0: ["1g.10gb"]})
    before = host.uuids(0)
    ds01.policy(allocation)
    answer = ds01(*words)
    assert (answer[0], expected[1] in answer[1] + answer[2]) == (expected[0], True)
    assert host.uuids(0) == before


def test_without_a_driver_it_says_what_to_do(ds01, make_host):
    make_host(["A100-80"]).server.unload_driver()
    ds01.policy("{enable_mig: true, mig_profile: 2g.20gb}")
    code, _, said = ds01("plan")
    assert code == 1
    assert "modprobe nvidia" in said


def test_others_are_told_that_it_is_for_root(ds01, make_host, monkeypatch):
    make_host(["A100-80"])
    ds01.policy("{}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, said = ds01("plan")
    assert code == 1
    assert "sudo" in said
