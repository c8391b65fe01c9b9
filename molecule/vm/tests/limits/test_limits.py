"""Limits that only cgroup v2 enforces, or that a shared kernel blurs."""

import pytest

# Exit status of a process that the kernel killed: 128 + SIGKILL.
_KILLED = 137
_MIB = 1024 * 1024
# Prints how many milliseconds it takes to write 16 MB past the page cache.
_WRITE = """
before=$(date +%s%N)
dd if=/dev/zero of=/scratch/carol/file bs=1M count=16 oflag=direct status=none && rm /scratch/carol/file
echo $((($(date +%s%N) - before) / 1000000))
"""


def _hold(megabytes: int) -> str:
    # tail keeps a line until it ends, and this one does not.
    return f"head -c {megabytes}M /dev/zero | tail -n 1 | wc -c"


def test_the_kernel_has_cgroup_v2_and_the_engine_uses_it(host):
    assert host.check_output("findmnt --noheadings --output FSTYPE /sys/fs/cgroup") == "cgroup2"
    assert host.check_output("docker info --format '{{.CgroupVersion}} {{.CgroupDriver}}'") == "2 systemd"


def test_memory_beyond_the_limit_ends_with_137(person, host):
    alice = person("alice")
    within, beyond = (
        host.run(
            "docker run --rm --cgroup-parent=%s ds01-lab/base sh -c %s",
            alice.slice,
            f"dd if=/dev/zero of=/dev/null bs={size}M count=1",
        )
        for size in (150, 250)
    )
    assert within.rc == 0
    assert beyond.rc == _KILLED


def test_memory_high_slows_down_without_killing(person, wait):
    dave = person("dave")
    assert dave.run(_hold(150)).rc == 0
    dave.start(_hold(400))
    wait(lambda: dave.count("memory.events", "high") > 0)
    # Above memory.high each page costs more time than the one before; without it 400 MB are there in a moment.
    wait(lambda: int(dave.read("memory.current")) > 195 * _MIB)
    assert int(dave.read("memory.high")) == 200 * _MIB
    assert int(dave.read("memory.current")) < 260 * _MIB
    assert dave.count("memory.events", "oom_kill") == 0


def test_a_fork_bomb_stops_at_the_limit_and_the_host_stays_alive(person, wait):
    alice, bob = person("alice"), person("bob")
    alice.start("(while :; do sleep 600 & done); exec sleep 600")
    wait(lambda: alice.count("pids.events", "max") > 0)
    assert int(alice.read("pids.max")) == 120
    assert int(alice.read("pids.current")) <= 120
    assert bob.run("echo still here").stdout == "still here\n"


def test_cpu_time_stays_below_the_quota(person, host):
    alice = person("alice")
    for _ in range(2):
        alice.start("while :; do :; done")
    begun, before = _uptime(host), alice.count("cpu.stat", "usage_usec")
    host.check_output("sleep 6")
    used, passed = alice.count("cpu.stat", "usage_usec") - before, _uptime(host) - begun
    # Half a CPU, and what one period of the scheduler may add.
    assert 0.1 < used / 1e6 / passed < 0.5 * 1.15
    assert alice.count("cpu.stat", "nr_throttled") > 0


def test_a_writer_is_slowed_down_to_the_limit_of_its_slice(person, host):
    carol = person("carol")
    number = host.check_output("cat /sys/class/block/vdb/dev").strip()
    carol.start("exec sleep 600")
    assert f"{number} rbps={8 * _MIB} wbps={4 * _MIB} riops=max wiops=max" in carol.read("io.max").splitlines()
    limited = int(carol.run(_WRITE).stdout)
    # 16 MB at 4 MB a second, of which the first slice of time is free.
    assert limited > 3000
    # Without the limit it can be quicker; whenever the machine below has nothing else to write, it is.
    assert any(int(host.check_output("runuser --user=carol -- sh -c %s", _WRITE)) < limited / 2 for _ in range(20))


# 16 MiB at 4 a second, then back at 8. A slow disk takes longer; the first slice of time is free.
_COPY = (
    "read up rest </proc/uptime; echo $up; dd if=/dev/zero of=/mine/big bs=1M count=16 oflag=direct 2>/dev/null;"
    "read up rest </proc/uptime; echo $up; dd if=/mine/big of=/dev/null bs=1M iflag=direct 2>/dev/null;"
    "read up rest </proc/uptime; echo $up; wc -c </mine/big; rm /mine/big"
)


@pytest.mark.parametrize("name", ["carol", "dave"])
def test_a_container_reads_and_writes_no_faster_than_it_may(person, host, name):
    """For carol her slice says how fast, for dave the container itself."""
    somebody = person(name)
    number = host.check_output("cat /sys/class/block/vdb/dev").strip()
    done = somebody.login(
        f"mkdir -p /scratch/{name}/io && docker run --rm --volume /scratch/{name}/io:/mine ds01-lab/base"
        f" sh -c 'grep -c \"^{number} rbps={8 * _MIB} wbps={4 * _MIB} \" /sys/fs/cgroup/io.max; {_COPY}'"
    )
    assert done.rc == 0, done.stderr
    own, began, written, read, size = map(float, done.stdout.split())
    assert own == (name == "dave")
    assert size == 16 * _MIB
    assert written - began > 3
    assert read - written > 1


def test_a_login_has_its_own_limit(person):
    alice = person("alice")
    assert alice.login("cat /proc/self/cgroup").stdout.startswith("0::/user.slice/user-")
    within, beyond = (alice.login(f"dd if=/dev/zero of=/dev/null bs={size}M count=1") for size in (200, 350))
    assert within.rc == 0
    assert beyond.rc != 0


def _uptime(host) -> float:
    return float(host.check_output("cut -d' ' -f1 /proc/uptime"))
