"""A host that was in use is a DS01 host now, and nobody who used it was stopped."""

from __future__ import annotations

import json

import pytest

EARLIER = "lab-upgrade-earlier"


@pytest.fixture
def earlier(host):
    return host.backend.get_hostname() == EARLIER


def inspect(host, name, template):
    return host.check_output("docker inspect --format %s %s", template, name)


@pytest.fixture
def rebooted(host):
    return host.check_output("cut -d' ' -f22 /proc/1/stat") != host.file("/root/boot-before").content_string.strip()


def test_what_ran_is_the_same_process(host, rebooted):
    if rebooted:
        # Another process, but what was told to restart came back by itself.
        assert inspect(host, "web", "{{.State.Running}}") == "true"
        return
    for line in host.file("/root/containers-before").content_string.splitlines():
        name, pid = line.split()
        assert inspect(host, name, "{{.State.Pid}}") == pid
        assert inspect(host, name, "{{.State.Status}}") == "running"


def test_all_are_visible(host):
    names = host.check_output("docker ps --all --format '{{.Names}}'").split()
    assert sorted(names) == ["idle._.5001", "web", "x._.5001"]


def test_exec_works(host):
    assert host.check_output("docker exec web cat /kept") == "kept"


def test_the_next_start_is_in_the_owners_slice(host):
    assert inspect(host, "x._.5001", "{{.HostConfig.CgroupParent}}") == "ds01-student-alice.slice"
    host.check_output("docker start idle._.5001")
    try:
        pid = inspect(host, "idle._.5001", "{{.State.Pid}}")
        assert (
            "/ds01.slice/ds01-student.slice/ds01-student-alice.slice/"
            in host.file(f"/proc/{pid}/cgroup").content_string
        )
    finally:
        host.check_output("docker stop --time 0 idle._.5001")


def test_adoption_is_on_record(host):
    events = [json.loads(line) for line in host.file("/var/log/ds01/events.jsonl").content_string.splitlines()]
    adopted = {event["subject"]["name"]: event for event in events if event["type"] == "container.adopt"}
    assert sorted(adopted) == ["idle._.5001", "web", "x._.5001"]
    assert adopted["x._.5001"]["details"]["uid"] == 5001
    assert adopted["web"]["decision"] == "warned"


def test_only_root_reaches_the_engine(host):
    engine = host.file("/run/ds01/engine/docker.sock")
    assert (engine.user, engine.group, engine.mode) == ("root", "root", 0o600)
    assert host.file("/run/ds01/engine").mode == 0o700
    assert host.check_output("getent group docker").endswith(":")
    assert host.run("runuser -u alice -- docker --host unix:///run/ds01/engine/docker.sock ps").rc != 0


def test_who_reached_the_engine_before_has_what_is_theirs_through_the_gateway(host):
    listed = "runuser -u alice -- docker ps --all --format {{.Names}}"
    assert sorted(host.check_output(listed).split()) == ["idle", "x"]
    assert host.run("runuser -u alice -- docker stop web").rc != 0


def test_the_engine_is_as_it_should_be(host):
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["CgroupDriver"] == "systemd"
    assert info["LiveRestoreEnabled"]
    assert info["DefaultRuntime"] == "runc"


def test_nothing_of_the_earlier_one_runs(host, earlier):
    for path in (
        "/etc/cron.d/ds01-maintenance",
        "/etc/sudoers.d/ds01-docker-group",
        "/etc/profile.d/ds01-docker-group.sh",
    ):
        assert not host.file(path).exists
    # In place of its wrapper is ours, which only explains.
    assert "Written by DS01" in host.file("/usr/local/bin/docker").content_string
    if earlier:
        assert host.file("/var/spool/cron/crontabs/root").content_string == "0 4 * * * /usr/local/sbin/backup\n"
        assert host.file("/usr/local/bin/lab-tool").exists
        for unit in ("ds01-exporter.service", "opa-docker-authz.service"):
            assert host.run("systemctl is-active --quiet %s", unit).rc != 0


def test_what_it_left_is_kept_out_of_reach(host, earlier):
    if not earlier:
        assert not host.file("/var/lib/ds01/predecessor").exists
        return
    assert host.file("/var/lib/ds01/predecessor").mode == 0o700
    assert host.file("/var/lib/ds01/predecessor/files/etc/cron.d/ds01-maintenance").exists
    assert host.file("/var/log/ds01/predecessor/events.jsonl").exists
    assert host.file("/var/lib/ds01").group == "root"
    # Containers may have files of it mounted, so the installation itself stays.
    assert host.file("/opt/ds01-infra/config/runtime/resource-limits.yaml").exists


def test_settings_of_others_stay(host, earlier):
    settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert ("mtu" in settings) is earlier
    assert "hosts" not in settings
