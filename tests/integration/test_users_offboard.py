"""People who leave a real host: nothing is lost, nothing that runs is stopped, every step can be repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.testhost import LabHost
from tests.unit.users.people_keys import key

CODE = "/opt/people-test"
DRIVER = f"""
import json, sys
sys.path.insert(0, "{CODE}")
from ds01.users import bulk, offboard
from ds01.problems import ApplyError, RefusedError
request = json.load(sys.stdin)
try:
    if "departed" in request:
        print(json.dumps(offboard.run(request, act=request.pop("act", False))))
    else:
        print(json.dumps(bulk.run(request, check=False)))
except RefusedError as error:
    print(json.dumps({{"refused": [str(problem) for problem in error.problems]}}))
except ApplyError as error:
    print(json.dumps({{"error": str(error)}}))
"""
ANNA = {"name": "anna", "groups": ["ds01-users"], "ssh_keys": [key(1)]}
ERIN = {"name": "erin", "groups": ["ds01-users", "ds01-admin"]}
BAKER = {"name": "h.baker@example.org", "groups": ["ds01-users"], "ssh_keys": [key(2)]}


class Leaving:
    """Bulk and off-boarding code on the host."""

    def __init__(self, host: LabHost) -> None:
        self.host = host

    def call(self, **request: Any) -> dict[str, Any]:
        """Call it with what the module would give it."""
        data = json.dumps({"scratch_base": "/scratch", **request}).encode()
        return json.loads(self.host.run("python3", f"{CODE}/driver.py", stdin=data).stdout)

    def one(self, **request: Any) -> dict[str, Any]:
        """Off-board one person."""
        answer = self.call(**request)
        assert len(answer.get("people", [])) == 1, answer
        return answer["people"][0]


@pytest.fixture
def leaving(lab_host: LabHost) -> Iterator[Leaving]:
    lab_host.sh(f"mkdir -p {CODE} /opt/before && cp -a /etc/passwd /etc/shadow /etc/group /etc/gshadow /opt/before/")
    lab_host.copy("src/ds01", f"{CODE}/")
    lab_host.write(f"{CODE}/driver.py", DRIVER)
    result = Leaving(lab_host)
    result.call(people=[ANNA, ERIN, BAKER])
    lab_host.sh(
        # runuser begins no session, which would be there for ten seconds more.
        "cd /home/anna; runuser anna -c 'umask 027; mkdir d; echo work > d/file; ln -s /etc/passwd link; "
        'echo two > "odd\n name"; mkfifo p; '
        "truncate -s 1G sparse; setfacl -m u:erin:r d/file; echo s > /scratch/anna/s'"
    )
    yield result
    lab_host.sh(
        "pkill -KILL -u anna || true; mkdir -p /scratch; "
        "find /home /scratch -mindepth 1 -maxdepth 1 -exec rm -rf {} +; "
        "cp -a /opt/before/* /etc/; "
        f"rm -rf {CODE} /opt/before /scratch /var/lib/ds01/offboard /var/lib/ds01/archive /var/spool/cron/crontabs/anna"
    )


def test_a_dry_run_says_all_and_does_nothing(leaving: Leaving):
    state = "sha256sum /etc/passwd /etc/shadow /etc/group; find /home /scratch /var/lib/ds01 | sort"
    before = leaving.host.sh(state)
    report = leaving.one(departed=["anna"])
    assert report["stage"] == "begun"
    assert any("lock the password" in step for step in report["steps"])
    assert any(step.startswith("archive /home/anna, /scratch/anna") for step in report["steps"])
    assert report["directories"]["/home/anna"] > 0
    assert leaving.host.sh(state) == before


def test_from_here_to_removed(leaving: Leaving):
    host = leaving.host
    report = leaving.one(departed=["anna"], act=True)
    assert (report["stage"], report["failed"]) == ("archived", None)
    assert host.sh("getent shadow anna").split(":")[1] == "!*"
    assert host.sh("getent passwd anna").strip().endswith("/usr/sbin/nologin")
    assert host.sh("id -nG anna") == "anna\n"
    assert host.sh("ls -A /home/anna/.ssh") == "authorized_keys.ds01-disabled\n"
    assert host.sh(f"stat -c '%a %U' {report['archive']} /var/lib/ds01/archive") == "600 root\n700 root\n"
    listing = host.sh(f"tar -tvf {report['archive']}")
    assert "link -> /etc/passwd" in listing
    assert "scratch/anna/s" in listing
    assert int(host.sh(f"stat -c %s {report['archive']}")) < 10_000_000
    assert leaving.one(departed=["anna"], act=True)["steps"] == []
    early = leaving.one(departed=["anna"], act=True, grace_days=1)
    assert early["steps"] == []
    gone = leaving.one(departed=["anna"], act=True, grace_days=0)
    assert gone["stage"] == "removed"
    assert host.sh("(getent passwd anna; getent group anna; ls -d /home/anna /scratch/anna 2>/dev/null) || true") == ""
    host.sh("pwck -r -q; grpck -r")
    host.sh(
        f"mkdir /tmp/x; tar -xpf {gone['archive']} -C /tmp/x; "
        'test "$(cat /tmp/x/home/anna/d/file)" = work; rm -rf /tmp/x'
    )
    uid = report["uid"]
    still_listed = leaving.call(people=[{"name": "fresh"}, ANNA | {"expires": "2020-01-01"}, ERIN, BAKER])
    assert still_listed["past"] == ["anna"]
    assert host.sh("id -u fresh").strip() != str(uid)
    assert leaving.call(departed="unlisted", people=[ERIN, BAKER, {"name": "fresh"}], act=True)["people"] == []


def test_who_comes_back_gets_everything_back(leaving: Leaving):
    host = leaving.host
    before = host.sh("getent passwd anna; getent shadow anna; cat /home/anna/.ssh/authorized_keys; id -nG anna")
    leaving.one(departed=["anna"], act=True)
    expired = leaving.call(people=[ANNA | {"expires": "2020-01-01"}, ERIN, BAKER])
    assert expired["changed"] is False
    back = leaving.call(people=[ANNA, ERIN, BAKER])
    assert "enabled" in [change["what"] for change in back["changes"]]
    assert host.sh("getent passwd anna; getent shadow anna; cat /home/anna/.ssh/authorized_keys; id -nG anna") == before
    assert leaving.call(people=[ANNA, ERIN, BAKER])["changed"] is False


def test_whom_a_rule_finds(leaving: Leaving):
    listed = [ANNA | {"expires": "2020-01-01"}, ERIN]
    assert [report["login"] for report in leaving.call(departed="expired", people=listed)["people"]] == ["anna"]
    assert [report["login"] for report in leaving.call(departed="unlisted", people=listed)["people"]] == [
        "h.baker@example.org"
    ]
    everybody = leaving.call(departed="unlisted", people=[])
    assert [report["login"] for report in everybody["people"]] == ["anna", "h.baker@example.org"]
    assert "erin" in everybody["refused"][0]


@pytest.mark.parametrize("who", ["root", "sshd", "erin", "nonesuch", "anna"])
def test_who_may_not_be_off_boarded(leaving: Leaving, who: str):
    listed = [ANNA] if who == "anna" else []
    assert leaving.call(departed=[who], people=listed, act=True)["refused"]


def test_an_administrator_by_primary_group_may_not(leaving: Leaving):
    leaving.host.sh("usermod -g ds01-admin anna")
    assert "administrator" in leaving.call(departed=["anna"], act=True)["refused"][0]


def test_an_administrator_by_a_group_of_the_directory_may_not(leaving: Leaving):
    who, admins = "h.baker@example.org", {"groups": ["lab admins@example.org"]}
    known = leaving.host.sh("cat /var/lib/extrausers/group")
    leaving.host.write("/var/lib/extrausers/group", f"{known}lab admins@example.org:x:1722839999:{who}\n")
    try:
        for departed in ([who], "unlisted"):
            answer = leaving.call(departed=departed, people=[ANNA, ERIN], admins=admins, act=True)
            assert answer.get("people", []) == []
            assert "lab admins@example.org" in answer["refused"][0]
    finally:
        leaving.host.write("/var/lib/extrausers/group", known)
    assert leaving.one(departed=[who], admins=admins)["steps"]


def test_people_of_a_directory(leaving: Leaving):
    report = leaving.one(departed=["h.baker@example.org"], act=True)
    assert report["stage"] == "archived"
    assert any("have it disabled there" in step for step in report["steps"])
    assert leaving.one(departed=["h.baker@example.org"], act=True, grace_days=0)["stage"] == "removed"
    assert (
        leaving.host.sh("ls -d /home/h.baker@example.org 2>/dev/null || true; id -un h.baker@example.org")
        == "h.baker@example.org\n"
    )


def test_what_runs_is_named_and_never_stopped(leaving: Leaving):
    host = leaving.host
    uid = host.sh("id -u anna").strip()
    host.sh(
        f"docker run -d --name work._.{uid} ds01-lab/base sleep 600; "
        "docker create --name idle -v /home/anna/d:/d ds01-lab/base true"
    )
    try:
        report = leaving.one(departed=["anna"], act=True)
        assert report["running_containers"] == [f"work._.{uid}"]
        assert sorted(report["containers"]) == ["idle", f"work._.{uid}"]
        later = leaving.one(departed=["anna"], act=True, grace_days=0)
        assert "containers run" in later["blocked"]
        assert later["stage"] == "archived"
        assert host.sh(f"docker inspect -f '{{{{.State.Running}}}}' work._.{uid}") == "true\n"
    finally:
        host.sh(f"docker rm -f work._.{uid} idle")
    host.run("sh", "-c", "setpriv --reuid anna --regid anna --clear-groups sleep 600 >/dev/null 2>&1 &")
    host.sh("timeout 60 sh -c 'until pgrep -u anna; do sleep 0.1; done'")
    assert "processes" in leaving.one(departed=["anna"], act=True, grace_days=0)["blocked"]
    host.sh("pkill -u anna")


def test_an_open_session_is_named_and_not_waited_for(leaving: Leaving):
    host = leaving.host
    host.run("sh", "-c", "su anna -c 'exec sleep 600' >/dev/null 2>&1 &")
    host.sh("timeout 60 sh -c 'until pgrep -u anna -x sleep; do sleep 0.1; done'")
    request = json.dumps({"scratch_base": "/scratch", "departed": ["anna"]}).encode()
    try:
        said = host.run("timeout", "120", "python3", f"{CODE}/driver.py", stdin=request).stdout
        assert host.run("pgrep", "-u", "anna", "-x", "sleep").stdout
    finally:
        host.sh("loginctl terminate-user anna; timeout 60 sh -c 'while pgrep -u anna; do sleep 0.1; done'")
    (report,) = json.loads(said)["people"]
    assert [session for session in report["sessions"] if session.endswith("(su)")]


def test_what_is_mounted_in_a_home_is_not_removed(leaving: Leaving):
    host = leaving.host
    leaving.one(departed=["anna"], act=True)
    host.sh("mkdir -p /srv/team; echo ours > /srv/team/f; mount --bind /srv/team /home/anna/d")
    try:
        assert "unmount first" in leaving.one(departed=["anna"], act=True, grace_days=0)["blocked"]
    finally:
        host.sh("umount /home/anna/d")
    assert leaving.one(departed=["anna"], act=True, grace_days=0)["stage"] == "removed"
    assert host.sh("cat /srv/team/f; rm -r /srv/team") == "ours\n"


def test_what_came_after_the_archive_is_archived_too(leaving: Leaving):
    host = leaving.host
    first = leaving.one(departed=["anna"], act=True)["archive"]
    host.sh("echo late > /home/anna/late")
    last = leaving.one(departed=["anna"], act=True, grace_days=0)
    assert last["archive"] != first
    assert "home/anna/late" in host.sh(f"tar -tf {last['archive']}")


def test_mail_that_came_after_the_archive_is_archived_too(leaving: Leaving):
    host = leaving.host
    host.sh("echo first > /var/mail/anna; chown anna: /var/mail/anna")
    leaving.one(departed=["anna"], act=True)
    host.sh("echo second >> /var/mail/anna")
    last = leaving.one(departed=["anna"], act=True, grace_days=0)
    assert last["stage"] == "removed"
    assert host.sh(f"tar -xOf {last['archive']} var/mail/anna") == "first\nsecond\n"


def test_an_archive_from_a_clock_that_was_ahead_is_made_again(leaving: Leaving):
    host = leaving.host
    first = leaving.one(departed=["anna"], act=True)["archive"]
    host.sh('sed -i \'s/"archived_at": [0-9.]*/"archived_at": 4000000000.0/\' /var/lib/ds01/offboard/anna.json')
    last = leaving.one(departed=["anna"], act=True, grace_days=0)
    assert (last["stage"], last["archive"] != first) == ("removed", True)


@pytest.mark.parametrize("tool", ["zstd", "gzip"])
def test_an_archive_holds_everything_whatever_packs_it(leaving: Leaving, tool: str):
    host = leaving.host
    if tool == "gzip":
        host.sh("mv /usr/bin/zstd /usr/bin/zstd.away")
    try:
        report = leaving.one(departed=["anna"], act=True)
        assert report["archive"].endswith({"zstd": ".tar.zst", "gzip": ".tar.gz"}[tool])
        host.sh(f"{tool} -q -t {report['archive']}")
    finally:
        host.sh("test ! -e /usr/bin/zstd.away || mv /usr/bin/zstd.away /usr/bin/zstd")
    # Read back by what it is, not by what this host would pack it with now.
    assert leaving.one(departed=["anna"], act=True, grace_days=0)["stage"] == "removed"
    host.sh(f"mkdir /tmp/x && tar --acls --xattrs -xpf {report['archive']} -C /tmp/x")
    try:
        assert host.sh("cat /tmp/x/home/anna/d/file '/tmp/x/home/anna/odd\n name'") == "work\ntwo\n"
        assert "user:erin:r--" in host.sh("getfacl -p /tmp/x/home/anna/d/file")
        assert host.sh("stat -c '%s %b' /tmp/x/home/anna/sparse").split() == [str(1 << 30), "0"]
    finally:
        host.sh("rm -rf /tmp/x")


@pytest.mark.parametrize("damage", ["printf x | dd bs=1 seek=200 conv=notrunc status=none of=", "truncate -s -100 "])
def test_a_damaged_archive_stops_the_removal(leaving: Leaving, damage: str):
    report = leaving.one(departed=["anna"], act=True)
    leaving.host.sh(f"{damage}{report['archive']}")
    later = leaving.one(departed=["anna"], act=True, grace_days=0)
    assert "nothing was removed" in later["failed"]
    assert leaving.host.sh("cat /home/anna/d/file") == "work\n"


def test_a_full_disk_loses_nothing_and_is_resumed(leaving: Leaving):
    host = leaving.host
    host.sh(
        "head -c 3M /dev/urandom > /home/anna/big; chown anna: /home/anna/big; "
        "mkdir /mnt/a; mount -t tmpfs -o size=2m none /mnt/a"
    )
    try:
        report = leaving.one(departed=["anna"], act=True, archive_directory="/mnt/a")
        assert "free space" in report["failed"]
        assert report["stage"] == "disabled"
        assert host.sh("ls -A /mnt/a") == ""
        host.sh("mount -o remount,size=50m /mnt/a")
        assert leaving.one(departed="expired", act=True, archive_directory="/mnt/a")["stage"] == "archived"
    finally:
        host.sh("umount /mnt/a; rmdir /mnt/a")


def test_a_run_killed_anywhere_is_resumed(leaving: Leaving):
    host = leaving.host
    host.sh("head -c 8M /dev/urandom > /home/anna/big; chown anna: /home/anna/big")
    request = json.dumps({"scratch_base": "/scratch", "departed": ["anna"], "act": True}).encode()
    for delay in ("0.1", "0.15", "0.2", "0.3", "0.4"):
        host.run("timeout", "-s", "KILL", delay, "python3", f"{CODE}/driver.py", stdin=request, check=False)
    assert leaving.one(departed=["anna"], act=True)["stage"] == "archived"
    assert host.sh("ls /var/lib/ds01/archive | grep -c partial || true").strip() == "0"
    removal = json.dumps({"scratch_base": "/scratch", "departed": ["anna"], "act": True, "grace_days": 0}).encode()
    for delay in ("0.15", "0.2", "0.3"):
        host.run("timeout", "-s", "KILL", delay, "python3", f"{CODE}/driver.py", stdin=removal, check=False)
    leaving.call(departed=["anna"], act=True, grace_days=0)
    assert host.sh("ls -A /home /scratch | grep anna || true; getent passwd anna || true") == ""
