"""What the kernel counts over all containers together: no container takes what the services of the host need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.testhost import LabHost
from tests.integration.roles import Tasks

FILE = "/etc/sysctl.d/99-zz-ds01.conf"
COUNTED = ("fs/inotify/max_user_instances", "fs/inotify/max_user_watches", "fs/epoll/max_user_watches")
MOST = str(2**31 - 1)
SAID = f"""sed -n 's/ = / /p' {FILE} | tr . / | while read name value; do
    ! test -e /proc/sys/$name || echo $name $value $(cat /proc/sys/$name); done"""
# argv: how many, and whether to keep them. Ends with 1 where there are no more of them.
TAKE = """
import ctypes, fcntl, os, resource, signal, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
libc = ctypes.CDLL(None)
for _ in range(int(sys.argv[1])):
    if libc.inotify_init() < 0:
        sys.exit(1)
pipes = [os.pipe() for _ in range(1100)]
print("taken", min(fcntl.fcntl(end, fcntl.F_GETPIPE_SZ) for _, end in pipes), flush=True)
if len(sys.argv) > 2:
    signal.pause()
"""
# Of a container's root, which has Python from the host.
RUN = "docker run {} --volume /:/host:ro ds01-lab/base chroot /host python3 /root/take.py {}"


apply = Tasks("slices")


@pytest.fixture(scope="module")
def host(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    directory = tmp_path_factory.mktemp("play")
    lab_host.write("/root/take.py", TAKE)
    # Less than they shall be and enough for everybody: the kernel is the machine's, with all that runs there.
    lab_host.sh(f"cd /proc/sys; for number in {' '.join(COUNTED)}; do echo 1000000000 >$number; done")
    apply(lab_host, directory, "counters", "--check")
    lab_host.sh(f"test ! -e {FILE}")
    apply(lab_host, directory, "counters")
    found = {name: numbers for name, *numbers in map(str.split, lab_host.sh(SAID).splitlines())}
    assert all(wanted == actual for wanted, actual in found.values()), found
    assert {found[name][1] for name in COUNTED} == {MOST}
    assert "changed=0 " in apply(lab_host, directory, "counters")
    yield lab_host
    apply(lab_host, directory, "counters_remove")
    lab_host.sh(f"test ! -e {FILE}")


def test_the_host_has_them_whatever_a_container_took(host: LabHost):
    said = host.sh(f"""{RUN.format("--detach --name taker", "1000 keep")} >/dev/null
        timeout 60 sh -c 'until docker logs taker | grep taken; do sleep 0.1; done'
        python3 /root/take.py 1 || echo none; docker rm --force taker >/dev/null""")
    assert said.splitlines() == [f"taken {64 << 10}"] * 2


def test_memory_is_the_end_of_them(host: LabHost):
    small = "--name hog --memory 16m --memory-swap 16m"
    host.sh(f"{RUN.format(small, 10)} | grep taken; docker rm hog")
    assert host.run("sh", "-c", RUN.format(small, 1_000_000), check=False).returncode == 137
    assert host.sh("docker inspect --format '{{.State.OOMKilled}}' hog; docker rm hog").split() == ["true", "hog"]


def test_they_are_the_same_at_a_boot_whatever_others_say(host: LabHost):
    host.write("/etc/sysctl.d/99-sysctl.conf", f"fs.inotify.max_user_watches = {2**20}\n")
    said = host.sh("systemd-analyze cat-config sysctl.d; rm /etc/sysctl.d/99-sysctl.conf").splitlines()
    numbers = [line.split()[-1] for line in said if line.startswith("fs.inotify.max_user_watches ")]
    assert numbers == [str(2**20), MOST]
