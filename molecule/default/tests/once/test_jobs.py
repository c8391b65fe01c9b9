"""The jobs that a host runs by itself, inside their sandbox, and what they leave for people to read."""

import json
from collections.abc import Iterator

import pytest

_UNITS = "/etc/systemd/system"
_POLICY = "/etc/ds01/resource-limits.yaml"
_JOBS = ("expiry", "slices")


def _events(host) -> list[dict]:
    return [json.loads(line) for line in host.file("/var/log/ds01/events.jsonl").content_string.splitlines()]


@pytest.fixture
def _no_timers(host) -> Iterator[None]:
    """No job begins by itself meanwhile, and repairs or says what the test waits for."""
    listed = "systemctl list-units --plain --no-legend --state=active --type=timer 'ds01-enforce-*'"
    timers = " ".join(line.split()[0] for line in host.check_output(listed).splitlines())
    host.check_output(f"systemctl stop {timers}")
    running = "systemctl list-units --no-legend --state=activating,active --type=service 'ds01-enforce-*'"
    host.check_output(f'timeout 300 sh -c "while {running} | grep -q .; do sleep 0.5; done"')
    yield
    host.check_output(f"systemctl start {timers}")


@pytest.mark.parametrize("job", _JOBS)
def test_the_sandbox_is_tight(host, job):
    # In tenths: exposure is at most 2.0 of 10.
    assert host.run("systemd-analyze security --no-pager --threshold=20 ds01-enforce-%s.service", job).rc == 0


@pytest.mark.usefixtures("_no_timers")
@pytest.mark.parametrize("job", _JOBS)
def test_a_job_repairs_files_and_the_kernel_from_inside_its_sandbox(containers, slices, host, job):
    containers.start("alice")
    alice = slices.name("alice")
    override = f"{_UNITS}/ds01-student-bob.slice.d/60-override.conf"
    limits = f"{_UNITS}/ds01-student-.slice.d/50-limits.conf"
    host.check_output(f"rm {override} && sed -i s/^TasksMax=.*/TasksMax=77/ {limits} && systemctl daemon-reload")
    host.check_output(f"systemd-run --quiet --scope --slice='{alice}' true")
    assert slices.tasks_max(alice) == 77
    host.check_output(f"systemctl start ds01-enforce-{job}.service")
    assert slices.tasks_max(alice) == 200
    assert host.file(override).exists
    assert oct(host.file(override).mode) == oct(0o644)


@pytest.mark.usefixtures("_no_timers")
def test_a_broken_policy_on_the_host_changes_nothing_and_is_said_once(host):
    host.check_output(f"cp -p {_POLICY} /root/policy.kept && echo 'groups: [' >> {_POLICY}")
    before = host.check_output(f"sha256sum {_UNITS}/ds01*.slice {_UNITS}/ds01*.slice.d/*")
    known = len(_events(host))
    try:
        for job in (*_JOBS, *_JOBS):
            assert host.run(f"systemctl start ds01-enforce-{job}.service").rc != 0
        assert host.run("/opt/ds01/current/bin/ds01 enforce slices").rc == 1
        # Others write there too: leases end, devices are seen.
        said = [event["type"] for event in _events(host)[known:]]
        assert [kind for kind in said if kind.startswith("policy.")] == ["policy.reject"]
        assert host.check_output(f"sha256sum {_UNITS}/ds01*.slice {_UNITS}/ds01*.slice.d/*") == before
    finally:
        host.check_output(f"mv /root/policy.kept {_POLICY}")
        host.check_output("systemctl reset-failed 'ds01-enforce-*'")
    assert host.run("systemctl start ds01-enforce-slices.service").rc == 0


def test_people_cannot_touch_or_read_the_event_log(host):
    log = "/var/log/ds01/events.jsonl"
    for attempt in (f"echo x >> {log}", f"cat {log}", "touch /var/log/ds01/x", f"mv {log} /tmp/x"):
        assert host.run("su --login alice --command %s", attempt).rc != 0
    assert host.file(log).mode == 0o640
    assert host.file(log).user == "root"


def test_the_event_log_is_in_the_journal_too(host):
    last = _events(host)[-1]
    host.check_output("journalctl --sync")
    found = host.check_output(f"journalctl --output=cat --output-fields=DS01_EVENT DS01_ID={last['id']} _UID=0")
    assert json.loads(found) == last
