"""daemon.json: ours wins, the rest stays, nothing is guessed."""

from __future__ import annotations

import json

import pytest

from ds01.engine import settings
from ds01.engine.errors import EngineError

OURS = settings.wanted(version="26.1.5+dfsg1", log_max_size="10m", log_max_files=3)


def test_a_new_file_holds_exactly_ours():
    assert settings.merge({}, OURS) == OURS
    assert OURS["cgroup-parent"] == "ds01-unmanaged.slice"
    assert OURS["features"] == {"cdi": True}


@pytest.mark.parametrize(
    ("version", "cdi"), [("20.10.24+dfsg1", False), ("24.0.7", False), ("25.0.0", True), ("", True)]
)
def test_cdi_is_switched_on_only_where_the_engine_knows_it(version: str, cdi: bool):
    assert ("features" in settings.wanted(version=version, log_max_size="1m", log_max_files=1)) is cdi


def test_what_others_set_stays():
    there = {
        "mtu": 1400,
        "features": {"containerd-snapshotter": True},
        "exec-opts": ["native.foo=1"],
        "runtimes": {"nvidia": {}},
    }
    merged = settings.merge(there, OURS)
    assert merged["mtu"] == 1400
    assert merged["features"] == {"containerd-snapshotter": True, "cdi": True}
    assert merged["exec-opts"] == ["native.foo=1", "native.cgroupdriver=systemd"]
    assert merged["runtimes"] == {"nvidia": {}}


def test_ours_win():
    there = {"default-runtime": "nvidia", "live-restore": False, "exec-opts": ["native.cgroupdriver=cgroupfs"]}
    merged = settings.merge(there, OURS)
    assert merged["default-runtime"] == "runc"
    assert merged["live-restore"] is True
    assert merged["exec-opts"] == ["native.cgroupdriver=systemd"]


def test_options_of_another_log_driver_go_with_it():
    there = {"log-driver": "syslog", "log-opts": {"syslog-address": "udp://192.0.2.1:514"}}
    assert settings.merge(there, OURS)["log-opts"] == OURS["log-opts"]
    assert settings.merge({"log-opts": {"labels": "a"}}, OURS)["log-opts"] == {"labels": "a", **OURS["log-opts"]}


def test_a_merge_of_a_merge_changes_nothing():
    merged = settings.merge({"mtu": 1400, "exec-opts": ["a=b"], "hosts": ["fd://"]}, OURS)
    assert settings.merge(merged, OURS) == merged
    assert "hosts" not in merged


def test_taking_ours_back_restores_what_was_before_and_keeps_what_came_later():
    before = {"default-runtime": "nvidia", "log-opts": {"max-size": "1g"}}
    now = settings.merge(before, OURS) | {"mtu": 1400}
    assert settings.take_back(now, before, OURS) == before | {"mtu": 1400}
    assert settings.take_back(settings.merge({}, OURS), {}, OURS) == {}


@pytest.mark.parametrize("text", ["{broken", "[]", "null", '{"a": 1, "a": 2}'])
def test_a_file_that_cannot_be_used_is_named(text: str):
    with pytest.raises(EngineError, match=r"/etc/docker/daemon.json: .*: .*: "):
        settings.parse(text)


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_no_file_and_an_empty_one_hold_nothing(text: str | None):
    assert settings.parse(text) == {}


def test_rendering_is_stable_json():
    text = settings.render(OURS)
    assert json.loads(text) == OURS
    assert settings.render(json.loads(text)) == text


FROM_PACKAGE = ["/usr/sbin/dockerd", "-H", "fd://", "--containerd=/run/containerd/containerd.sock"]


def test_the_command_of_the_package_is_fine():
    assert settings.conflicts(OURS, FROM_PACKAGE) == []
    assert settings.conflicts(OURS, ["dockerd", "--host=fd://"]) == []
    assert settings.conflicts(OURS, []) == []


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--live-restore"], "--live-restore"),
        (["--exec-opt", "native.cgroupdriver=cgroupfs"], "--exec-opt"),
        (["--log-opt=max-size=1g"], "--log-opt"),
        (["--default-runtime=nvidia"], "--default-runtime"),
        (["-H", "tcp://0.0.0.0:2375"], "docker.service -H"),
    ],
)
def test_a_flag_that_contradicts_is_named(extra: list[str], named: str):
    (trouble,) = settings.conflicts(OURS, [*FROM_PACKAGE, *extra])
    assert named in trouble.path
    assert trouble.fix


def test_an_engine_that_listens_elsewhere_is_refused():
    assert settings.conflicts({"hosts": ["tcp://0.0.0.0:2375"]}, FROM_PACKAGE)[0].value == "tcp://0.0.0.0:2375"
    (trouble,) = settings.conflicts({}, ["dockerd"])
    assert trouble.value == "none"


@pytest.mark.parametrize(
    ("text", "version"), [("26.1.5+dfsg1", (26, 1, 5)), ("28.0.0-rc.1", (28, 0, 0)), ("", ()), ("dev", ())]
)
def test_versions(text: str, version: tuple[int, ...]):
    assert settings.version_tuple(text) == version
