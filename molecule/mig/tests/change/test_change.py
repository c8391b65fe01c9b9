"""Layouts change where nobody is disturbed; who uses a GPU is named and keeps it."""

from __future__ import annotations

import json


def test_a_free_gpu_is_divided_anew_and_what_fits_stays(gpus):
    before, others = gpus.devices(0), gpus.devices(1)
    assert gpus.apply(gpu0={"1g.10gb": 7}).rc == 0
    assert gpus.layout(0) == [f"1g.10gb@{start}" for start in range(7)]
    assert gpus.devices(1) == others
    [kept] = [uuid for uuid, what in before.items() if what == "1g.10gb@6"]
    assert gpus.devices(0)[kept] == "1g.10gb@6"


def test_a_gpu_in_use_waits_and_the_person_is_named(host, gpus):
    name = gpus.use("1:0")
    before = gpus.devices(1)
    done = gpus.apply(gpu0={"7g.80gb": 1}, gpu1={"1g.10gb": 7})
    assert done.rc == 4
    assert f"by alice, container {name}: process" in done.stdout
    assert gpus.layout(0) == ["7g.80gb@0"]
    assert gpus.devices(1) == before
    assert host.check_output("docker inspect --format '{{.State.Running}}' %s", name) == "true"
    gpus.release()
    assert gpus.apply(gpu1={"1g.10gb": 7}).rc == 0
    assert len(gpus.devices(1)) == 7


def test_a_mixed_gpu_changes_around_what_is_in_use(host, gpus):
    name = gpus.use("0:1")
    listed = json.loads(host.check_output("ds01 gpu list --json"))["gpus"][0]["devices"]
    [used] = [device["uuid"] for device in listed if device["id"] == "0:1"]
    pid = host.check_output("docker inspect --format '{{.State.Pid}}' %s", name)
    assert gpus.apply(gpu0={"2g.20gb": 1, "1g.10gb": 5}).rc == 0
    assert sorted(what.partition("@")[0] for what in gpus.devices(0).values()) == ["1g.10gb"] * 5 + ["2g.20gb"]
    assert used in gpus.devices(0)
    assert host.check_output("docker inspect --format '{{.State.Pid}}' %s", name) == pid


def test_a_killed_change_is_completed_by_the_next_run(host, gpus):
    config = gpus.write(gpu0={"1g.10gb": 7}, gpu1={"4g.40gb": 1, "3g.40gb": 1}, gpu3={"2g.20gb": 3})
    # At another moment each time, from before the first step to after the last.
    for delay in ("0.2", "0.3", "0.4", "0.5"):
        host.run("timeout --signal=KILL %s ds01 mig apply --config %s", delay, config)
        assert gpus.apply().rc == 0
        assert gpus.layouts() == gpus.policy
    host.run("timeout --signal=KILL 0.35 ds01 mig apply --config %s", config)
    assert host.run("ds01 mig apply --config %s", config).rc == 0
    assert [len(gpus.devices(gpu)) for gpu in (0, 1, 2, 3)] == [7, 2, 1, 3]


def test_a_policy_for_other_gpus_is_refused_before_the_host_is_touched(host, gpus, play):
    before = host.check_output("sha256sum /etc/ds01/resource-limits.yaml /var/lib/ds01/mig/desired.json")
    # An A100 with 40 GB could do it, so the policy in itself is right.
    done = play("site.yml", layout="{enable_mig: true, mig_layout: {0: [1g.5gb], 1: [], 7: [1g.5gb]}}")
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "1g.5gb on GPU 0 (NVIDIA A100-SXM4-80GB)" in said
    assert "mig_layout.7: 7: a GPU of this host" in said
    assert gpus.layouts() == gpus.policy
    assert host.check_output("sha256sum /etc/ds01/resource-limits.yaml /var/lib/ds01/mig/desired.json") == before


def test_a_deployment_shows_the_plan_and_goes_round_who_is_busy(gpus, play):
    name = gpus.use("1:0")
    wanted = "{enable_mig: true, mig_layout: {0: [7g.80gb], 1: [7g.80gb], 2: [7g.80gb], 3: []}}"
    check = play("site.yml", "--tags=mig", "--check", "--diff", layout=wanted)
    assert check.returncode == 0, check.stdout
    assert "+GPU 0: 7g.80gb@0" in check.stdout
    assert "changed=1" in check.stdout
    assert gpus.layouts() == gpus.policy
    done = play("site.yml", "--tags=mig", layout=wanted)
    assert done.returncode == 0, done.stdout
    assert "changed=1" in done.stdout
    assert name in " ".join((done.stdout + done.stderr).split())
    assert gpus.layouts() == gpus.policy | {0: ["7g.80gb@0"]}


def test_a_host_without_gpus_is_deployed_all_the_same(host, gpus, play):
    host.check_output("nvmlsim driver unload")
    try:
        done = play("site.yml", "--tags=nvidia,mig")
    finally:
        host.check_output("nvmlsim driver load")
        host.check_output("ds01 mig apply --saved")
    assert done.returncode == 0, done.stdout
    assert "changed=0" in done.stdout
    assert "No GPU of NVIDIA to set up" in done.stdout
    assert gpus.layouts() == gpus.policy
