"""The lab host is what the other tests take it for: a real machine, with a kernel that enforces."""

_WITHIN = "busybox dd if=/dev/zero of=/dev/null bs=20M count=1"
_BEYOND = "busybox dd if=/dev/zero of=/dev/null bs=80M count=1"


def test_systemd_is_up_and_no_unit_failed(lab_host):
    assert lab_host.sh("systemctl is-system-running --wait").strip() == "running"


def test_its_clock_is_the_machines_and_stays(lab_host):
    # To the time that it is, which is no harm where it is allowed.
    attempt = "import time; time.clock_settime(time.CLOCK_REALTIME, time.time())"
    assert "Operation not permitted" in lab_host.run("python3", "-c", attempt, check=False).stderr


def test_the_memory_limit_of_a_slice_is_the_kernels(lab_host):
    lab_host.sh("mkdir -p /etc/systemd/system/probe-.slice.d")
    lab_host.write("/etc/systemd/system/probe-.slice.d/50-limits.conf", "[Slice]\nMemoryMax=50M\n")
    lab_host.sh("systemctl daemon-reload")
    try:
        within = lab_host.run(
            "systemd-run", "--quiet", "--wait", "--slice=probe-a.slice", *_WITHIN.split(), check=False
        )
        beyond = lab_host.run(
            "systemd-run", "--quiet", "--wait", "--slice=probe-a.slice", *_BEYOND.split(), check=False
        )
    finally:
        lab_host.sh("rm -r /etc/systemd/system/probe-.slice.d; systemctl daemon-reload; systemctl reset-failed")
    assert within.returncode == 0
    assert beyond.returncode != 0


def test_a_container_runs_from_the_test_image(lab_host):
    assert lab_host.sh("docker run --rm ds01-lab/base echo hello") == "hello\n"


def test_people_of_a_directory_service_log_in_and_get_a_home_and_a_slice(lab_host):
    told = lab_host.run("su", "--login", "h.baker@example.org", "--command", "id -u; pwd; cat /proc/self/cgroup").stdout
    uid, home, *cgroups = told.splitlines()
    assert (uid, home) == ("1722830498", "/home/h.baker@example.org")
    assert any("user-1722830498.slice" in line for line in cgroups)


def test_memory_and_run_are_lost_in_a_reboot_and_the_disk_stays(lab_host):
    lab_host.write("/root/kept", "x")
    lab_host.write("/run/lost", "x")
    lab_host.reboot()
    assert lab_host.sh("ls /root/kept").strip() == "/root/kept"
    assert lab_host.run("ls", "/run/lost", check=False).returncode != 0
    assert lab_host.sh("systemctl is-system-running --wait").strip() == "running"
