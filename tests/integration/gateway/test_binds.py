"""Binds: what a container really sees of the host, whatever its owner makes of the path meanwhile."""

from __future__ import annotations

import json

import pytest

from tests.integration.gateway.gateway_host import SOCKET, GatewayHost
from tests.integration.gateway.gpu_host import until

IMAGE = "ds01-lab/base"
HOME = "/srv/people/alice"
PINS = "/run/ds01/binds"
# Swaps a directory for links to what is not hers, thousands of times a second, until its input ends.
SWAP = f"""
import ctypes, select, sys, time
libc = ctypes.CDLL(None)
names = [b"{HOME}/swap"] + [b"{HOME}/spare%d" % n for n in range(4)]
while not select.select([sys.stdin], [], [], 0)[0]:
    for spare in names[1:]:
        libc.renameat2(-100, names[0], -100, spare, 2)
        time.sleep(0.0001)
        libc.renameat2(-100, names[0], -100, spare, 2)
        time.sleep(0.0001)
"""


@pytest.fixture(autouse=True)
def _home(gateway: GatewayHost):
    gateway.host.sh(f"""
    chmod 755 /srv/people; rm -rf {HOME}; install -d -o alice -g alice {HOME}; umount /srv/shared 2>/dev/null || :
    mkdir -p /srv/shared; mount -t tmpfs tmpfs /srv/shared; chmod 755 /srv/shared
    for place in /root /etc /srv/people/bob; do mkdir -p $place; (umask 077; echo host >$place/marker); done
    chown -R bob /srv/people/bob; chmod 700 /srv/people/bob
    """)


def pins(gateway: GatewayHost) -> list[str]:
    return gateway.host.sh(f"ls {PINS}").split()


def test_no_swap_ever_reaches_what_is_not_ones_own(gateway: GatewayHost):
    gateway.sh("alice", f"""
    cd {HOME}; mkdir swap spare3; echo mine >swap/marker; echo mine >spare3/marker
    ln -s /root spare0; ln -s /etc spare1; ln -s /srv/people/bob spare2
    """)  # fmt: skip
    look = "cat /d/marker; echo x >/d/written; sleep 0.2; cat /d/marker; exit 1"
    gateway.host.sh(f"docker create --name control -v {HOME}/swap:/d {IMAGE} cat /d/marker")
    swapping = gateway.start("alice", f"python3 -c '{SWAP}'")
    try:
        copied = gateway.sh("alice", f"""
        for n in 1 2; do
          docker run --name r$n -v {HOME}/swap:/d {IMAGE} sh -c '{look}' >/dev/null
          docker create --name c$n --restart on-failure:1 -v {HOME}/swap:/d {IMAGE} sh -c '{look}' >/dev/null
          docker create --name m$n --mount type=bind,source={HOME}/swap,target=/d {IMAGE} sh -c '{look}' >/dev/null
          docker start $(docker ps -aq) >/dev/null &
          docker restart -t 0 $(docker ps -aq) >/dev/null
          wait
        done
        # As often as it takes: whose directory is met is chance.
        n=0; again() {{ n=$((n+1)); test $n -lt 500; }}
        until docker create --name sure -v {HOME}/swap:/d {IMAGE} sh -c '{look}' >/dev/null || ! again; do :; done
        until docker start -a sure | grep mine || ! again; do :; done
        until docker cp sure:/d/marker - | tail -c +513 | grep -a mine || ! again; do :; done
        for c in $(docker ps -aq); do
          docker cp $c:/d/marker - | tail -c +513 | head -c 5; docker cp /bin/true $c:/d/put; done""")  # fmt: skip
        # The same through the engine alone, to see that this test would notice.
        again = "n=0; until docker start -a control 2>&1 | grep host; do n=$((n+1)); test $n -lt 200; done"
        control = gateway.host.sh(again, check=False)
    finally:
        swapping.communicate("end\n", timeout=120)
    assert "host" in control
    logs = gateway.host.sh(
        f"for c in $(docker ps -aq --filter label=ds01.uid={gateway.uid['alice']}); do docker logs $c 2>&1; done"
    )
    assert "mine" in logs
    assert "mine" in copied
    assert "host" not in logs + copied
    assert gateway.host.sh("ls /root/written /etc/written /srv/people/bob/written /etc/put 2>/dev/null || :") == ""


def test_what_the_owner_typed_is_what_they_see(gateway: GatewayHost):
    said = gateway.sh("alice", f"""
    cd {HOME}; mkdir 'a, b' ; ln -s 'a, b' link; echo one >'a, b/file'
    docker create --name shown -v '{HOME}/link:/x' -v '{HOME}/a, b/file:/f:ro' -v vol:/v \
      --mount 'type=bind,source={HOME}/link,target=/m,readonly' {IMAGE} cat /x/file /f /m/file >/dev/null
    docker start -a shown; docker inspect shown""")  # fmt: skip
    assert said.startswith("one\none\none\n")
    found = json.loads(said.removeprefix("one\none\none\n"))[0]
    typed = {mount["Destination"]: mount.get("Source") for mount in found["Mounts"] if mount["Type"] == "bind"}
    assert typed == {"/x": f"{HOME}/link", "/f": f"{HOME}/a, b/file", "/m": f"{HOME}/link"}
    assert sorted(found["HostConfig"]["Binds"]) == [f"{HOME}/a, b/file:/f:ro", f"{HOME}/link:/x:rw", "vol:/v:rw"]
    assert [mount["Source"] for mount in found["HostConfig"]["Mounts"]] == [f"{HOME}/link"]
    assert PINS not in gateway.sh("alice", "docker ps -a --no-trunc --format '{{.Mounts}}'")
    engine = gateway.inspect(f"shown._.{gateway.uid['alice']}")
    assert {m["Source"].rpartition("/")[0] for m in engine["Mounts"] if m["Type"] == "bind"} == {
        f"{PINS}/{engine['Config']['Labels']['ds01.binds']}"
    }
    assert all("," not in value for value in engine["Config"]["Labels"].values())
    # Another container has the same by --volumes-from, and keeps it when the first one is gone.
    said = gateway.sh(
        "alice",
        f"""
    docker create --name heir --volumes-from shown:ro {IMAGE} sh -c 'cat /x/file; touch /x/new' >/dev/null
    docker rm shown >/dev/null; docker start -a heir""",
    )
    # Output and errors of a container come by two ways, in no order.
    assert "one" in said.splitlines()
    assert "Read-only file system" in said


def test_each_start_follows_the_path_anew_and_nothing_is_left_behind(gateway: GatewayHost):
    assert until(lambda: pins(gateway) == [])
    said = gateway.sh(
        "alice",
        f"""
    cd {HOME}; mkdir data; echo one >data/x; docker create --name box -v {HOME}/data:/d {IMAGE} cat /d/x >/dev/null
    docker start -a box; mv data old; mkdir data; echo two >data/x; docker start -a box
    rm -r data; docker start -a box; ls -ld data; docker rename box other; docker start -a other""",
    )
    # As `docker run -v` does it, a directory that is not there is made: hers, not root's.
    assert said.startswith("one\ntwo\ncat: can't open '/d/x'")
    assert "alice alice" in said
    assert len(pins(gateway)) == 1
    mounts = gateway.host.sh("cat /proc/self/mountinfo").count(f" {PINS}/")
    assert mounts == 1
    gateway.run("alice", "docker", "run", "--rm", "-v", f"{HOME}/data:/d", IMAGE, "true")
    said = gateway.sh(
        "alice",
        f"""
    docker create --name box --mount type=bind,source={HOME}/none,target=/d {IMAGE} true
    docker create --name box --mount type=bind,source={HOME}/data,target=/d -v {HOME}/data:/d {IMAGE} true
    docker rm other""",
    )
    assert "it cannot be looked at (No such file or directory): make the directory first" in said
    assert "Duplicate mount point" in said
    assert until(lambda: pins(gateway) == [])
    assert f" {PINS}/" not in gateway.host.sh("cat /proc/self/mountinfo")


def test_after_a_reboot_nothing_starts_until_its_owner_starts_it(gateway: GatewayHost):
    gateway.sh(
        "alice",
        f"""
    mkdir {HOME}/d; echo mine >{HOME}/d/x; docker create --name box --restart on-failure -v {HOME}/d:/d {IMAGE} cat /d/x
    docker create --name after -v {HOME}/d:/d {IMAGE} cat /d/x""",
    )
    # What a reboot leaves: an empty /run.
    gateway.host.sh(f"umount -l {PINS}/*/*; umount {PINS}")
    name = f"box._.{gateway.uid['alice']}"
    done = gateway.host.run("docker", "start", "-a", name, check=False)
    assert done.returncode != 0
    assert "mine" not in done.stdout
    assert gateway.sh("alice", "docker cp box:/d/x - | tail -c +513 | head -c 5") == "mine\n"
    # An administrator starts it with the owner's rights.
    assert gateway.sh("carol", f"docker start -a after._.{gateway.uid['alice']}") == "mine\n"
    assert gateway.sh("alice", "docker start -a box; docker start -a after") == "mine\nmine\n"


def test_root_in_a_container_makes_nothing_that_counts_on_the_host(gateway: GatewayHost):
    gateway.run("alice", "docker", "run", "-d", "--name", "box", "-v", f"{HOME}:/d", IMAGE, "sleep", "99")
    gateway.sh("alice", "docker exec box sh -c 'cp /bin/busybox /d/busybox; chmod 4755 /d/busybox'")
    archive = """
import io, sys, tarfile
tar = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
data = open("/usr/bin/id", "rb").read()
kinds = ("put", tarfile.REGTYPE, 0o4755, 0), ("disk", tarfile.BLKTYPE, 0o666, 7), ("null", tarfile.CHRTYPE, 0o666, 1)
for name, kind, mode, major in kinds:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, len(data) if kind == tarfile.REGTYPE else 0
    entry.devmajor, entry.devminor = major, 3 if kind == tarfile.CHRTYPE else 0
    tar.addfile(entry, io.BytesIO(data) if entry.size else None)
tar.close()
"""
    gateway.run("alice", "sh", "-c", f"python3 -c '{archive}' | docker cp - box:/d")
    # They are there, root's, set-uid and devices; and mean nothing.
    listed = gateway.host.sh(f"cd {HOME}; stat -c '%n %u %a %F' busybox put null").splitlines()
    assert listed == [
        "busybox 0 4755 regular file", "put 0 4755 regular file", "null 0 666 character special file"
    ]  # fmt: skip
    said = gateway.sh("alice", f"{HOME}/put -u; {HOME}/busybox id -u; cat {HOME}/null; head -c 1 {HOME}/disk")
    assert said.splitlines()[:2] == [str(gateway.uid["alice"])] * 2
    assert said.count("Permission denied") == 2
    # Nor may it be put where the host would honour it.
    assert "not mounted nosuid,nodev" in gateway.sh("alice", f"docker run --rm -v /home/alice:/d {IMAGE} true")


def test_what_is_shared_has_no_more_rights_inside_than_outside(gateway: GatewayHost):
    gateway.host.sh("""
    cd /srv/shared; groupadd -f lab; usermod -aG lab alice; mkdir data team; echo open >data/open
    (umask 077; echo secret >data/secret); chgrp lab team; chmod 2770 team; echo ours >team/file; chmod 660 team/file
    """)
    # The gateway asks for groups once a minute.
    gateway.host.sh("systemctl restart gw.service")
    own = "$(id -u):$(getent group lab | cut -d: -f3)"
    for user in ("", f"--user {own}"):
        said = gateway.sh("alice", f"""
        docker run --rm {user} -v /srv/shared/data:/d -v /srv/shared/team:/t:ro {IMAGE} sh -c '
          cat /d/open /d/secret /t/file; touch /t/new; stat -c %u /d/open'
        docker create --name put -v /srv/shared/data:/d {IMAGE} true >/dev/null; docker cp /bin/true put:/d/put
        docker rm put >/dev/null""")  # fmt: skip
        lines = said.splitlines()
        # In the group that it is shared with, as outside, and no more, root inside or not.
        assert {"open", "ours", "65534", "cat: can't open '/d/secret': Permission denied"} <= set(lines), said
        assert "/srv/shared/data is not yours: containers only read it" in said
        assert "Read-only file system" in said, said
    # Not even the engine itself writes there, as root: archives hold devices.
    assert gateway.host.sh("ls /srv/shared/team /srv/shared/data").split() == [
        "/srv/shared/data:", "open", "secret", "/srv/shared/team:", "file",
    ]  # fmt: skip


def test_only_a_socket_of_roots_is_taken_for_the_engines(gateway: GatewayHost):
    own = f"/run/gw/users/{gateway.uid['alice']}"
    run = f"docker run --rm -v {SOCKET.replace('/run/gw', '/var/run')}:/x {IMAGE} ls -l /x"
    assert "srw" in gateway.sh("alice", run)
    assert "Permission denied" in gateway.sh("alice", f"ln -sf /etc/shadow {own}/docker.sock")
    # Should something else be there all the same, it is not what the engine gets.
    gateway.host.sh(f"mv {own}/docker.sock {own}/kept; ln -s /etc/shadow {own}/docker.sock")
    try:
        assert "cannot be bound" in gateway.sh("alice", run)
        gateway.host.sh(f"rm {own}/docker.sock; touch {own}/docker.sock")
        assert "something else in its place" in gateway.sh("alice", run)
    finally:
        gateway.host.sh(f"rm -f {own}/docker.sock; mv {own}/kept {own}/docker.sock")


def test_a_container_from_before_starts_only_if_its_path_cannot_be_moved(gateway: GatewayHost):
    uid = gateway.uid["alice"]
    gateway.host.sh(f"""
    install -d -o alice {HOME}/deep; docker create --name deep._.{uid} -v {HOME}/deep:/d {IMAGE} true
    docker create --name top._.{uid} -v {HOME}:/d {IMAGE} true; systemctl restart gw.service""")
    said = gateway.sh("alice", "docker start deep; docker cp deep:/d - ; docker start top")
    assert said.count("the path could lead elsewhere at any time") == 2
    assert said.endswith("top\n")


def test_nobody_keeps_others_from_binding(gateway: GatewayHost):
    holding = gateway.start("alice", "flock /run/ds01 sleep 60")
    try:
        assert gateway.sh("alice", f"docker run --rm -v {HOME}:/x {IMAGE} echo bound") == "bound\n"
        # The one thing that is locked is nobody's to open.
        assert "Permission denied" in gateway.sh("alice", "cat /run/ds01/binds.lock")
    finally:
        holding.kill()
        gateway.host.sh("pkill -u alice -x sleep", check=False)
    many = " ".join(f"-v {HOME}:/x{number}" for number in range(65))
    assert "64 binds at most" in gateway.sh("alice", f"docker run --rm {many} {IMAGE} true")


def test_tmp_is_that_of_whoever_asks(gateway: GatewayHost):
    gateway.host.sh("""
    mkdir -p -m 0 /tmp/.ds01-private; mkdir -m 1777 /tmp/.ds01-private/alice /tmp/.ds01-private/bob
    echo everybody >/tmp/file; echo hers >/tmp/.ds01-private/alice/file; echo his >/tmp/.ds01-private/bob/file
    chown alice /tmp/.ds01-private/alice/file; chown bob /tmp/.ds01-private/bob/file
    """)
    try:
        said = gateway.sh("alice", f"""
        docker create --name own -v /tmp/file:/f {IMAGE} cat /f >/dev/null
        docker start -a own; docker inspect -f '{{{{(index .Mounts 0).Source}}}}' own
        docker run --rm -v /tmp/made/deep:/d {IMAGE} touch /d/there
        docker run --rm -v /tmp:/d {IMAGE} ls /d
        docker run --rm -v /tmp/.ds01-private/bob/file:/f {IMAGE} cat /f
        docker run --rm -v /tmp/../tmp/.ds01-private/bob/file:/f {IMAGE} cat /f""")  # fmt: skip
        assert said.splitlines()[:2] == ["hers", "/tmp/file"]
        assert "made" in said
        assert "his" not in said
        assert gateway.host.sh("stat -c %U /tmp/.ds01-private/alice/made/deep") == "alice\n"
    finally:
        gateway.sh("alice", "docker rm -f own")
        gateway.host.sh("rm -rf /tmp/.ds01-private /tmp/file")
