"""Where cron and at run people's jobs, once the role `logins` has made sessions of them, on a real host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.testhost import LabHost
from tests.integration.roles import Tasks

# Everything that must be as before, once it has been taken off again.
STATE = "find /etc/pam.d /usr/share/pam-configs /var/lib/pam -type f | sort | xargs cat"
PAM = "/etc/pam.d/common-session-noninteractive"
UPDATE = "DEBIAN_FRONTEND=noninteractive pam-auth-update"
# What a job sees of itself: on cgroup v1 and v2, systemd's own group.
LOOK = """#!/bin/sh
{ sed -n '/name=systemd:\\|^0::/s/.*://p' /proc/self/cgroup | sort -u; id -un; } >"$1.new" && mv "$1.new" "$1"
"""
# Stands in for a mail server; cron gives it what a job printed.
SENDMAIL = "#!/bin/sh\ncat >/home/al/mail.new && mv /home/al/mail.new /home/al/mail\n"


apply = Tasks("logins")


def result(host: LabHost, path: str) -> str:
    """What a job has written, as soon as it has."""
    end = time.monotonic() + 120
    while host.run("test", "-e", path, check=False).returncode != 0:
        assert time.monotonic() < end, f"{path} is not there after two minutes"
        time.sleep(0.1)
    return host.sh(f"cat {path}; rm {path}")


def cron(host: LabHost, user: str, command: str) -> None:
    """Let somebody's cron run a command now: at the boot, as it believes."""
    host.run("crontab", "-u", user, "-", stdin=f"@reboot {command}\n".encode())
    host.sh("systemctl stop cron; rm -f /run/crond.reboot; systemctl start cron")


def by_cron(host: LabHost, user: str, home: str) -> list[str]:
    cron(host, user, f"/usr/local/bin/look {home}/job.cron")
    said = result(host, f"{home}/job.cron").split()
    host.sh(f"crontab -r -u {user}")
    return said


def by_at(host: LabHost, user: str, home: str) -> list[str]:
    host.sh(f"cd {home} && echo '/usr/local/bin/look {home}/job.at' | setpriv --reuid={user} --regid={user} "
            f"--init-groups env -i PATH=/usr/bin:/bin at now 2>/dev/null")  # fmt: skip
    return result(host, f"{home}/job.at").split()


WAYS = {"cron": by_cron, "at": by_at}


@pytest.fixture(scope="module")
def host(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    directory = tmp_path_factory.mktemp("play")
    lab_host.sh("useradd --create-home --shell /bin/bash al; systemctl start cron atd;"
                "useradd --system --create-home --home-dir /var/lib/sys --shell /bin/sh sys1")  # fmt: skip
    # Each job that cron is to run begins with a start of cron.
    often = "/run/systemd/system/cron.service.d"
    lab_host.sh(
        f"mkdir -p {often}; printf '[Unit]\\nStartLimitIntervalSec=0\\n' >{often}/often.conf; systemctl daemon-reload"
    )
    lab_host.write("/usr/local/bin/look", LOOK, 0o755)
    lab_host.write("/usr/sbin/sendmail", SENDMAIL, 0o755)
    for name, way in WAYS.items():
        assert way(lab_host, "al", "/home/al") == [service(name), "al"]
    before = lab_host.sh(STATE)
    assert "changed=1 " in apply(lab_host, directory, "sessions", "--check")
    assert lab_host.sh(STATE) == before
    assert "changed=1 " in apply(lab_host, directory, "sessions")
    yield lab_host
    apply(lab_host, directory, "sessions_remove")
    assert lab_host.sh(STATE) == before
    assert "changed=0 " in apply(lab_host, directory, "sessions_remove")
    for name, way in WAYS.items():
        assert way(lab_host, "al", "/home/al") == [service(name), "al"]


def service(way: str) -> str:
    return "/system.slice/" + {"cron": "cron.service", "at": "atd.service"}[way]


def test_a_second_run_changes_nothing(host: LabHost, tmp_path: Path):
    assert "changed=0 " in apply(host, tmp_path, "sessions")


@pytest.mark.parametrize("way", WAYS)
def test_a_job_is_below_the_slice_of_its_owner_who_is_not_logged_in(host: LabHost, way: str):
    uid = host.sh("id -u al").strip()
    host.sh("loginctl terminate-user al 2>/dev/null || :; timeout 60 sh -c 'while pgrep -u al; do sleep 0.1; done'")
    place, name = WAYS[way](host, "al", "/home/al")
    assert place.startswith(f"/user.slice/user-{uid}.slice/session-"), place
    assert name == "al"
    # Its session ends with it.
    host.sh("timeout 60 sh -c 'while loginctl list-sessions | grep -w al | grep -w background; do sleep 0.1; done'")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("user", "home"), [("root", "/root"), ("sys1", "/var/lib/sys")])
def test_jobs_of_root_and_of_system_users_stay_where_they_were(host: LabHost, way: str, user: str, home: str):
    assert WAYS[way](host, user, home) == [service(way), user]


def test_cron_mails_what_a_job_prints(host: LabHost):
    cron(host, "al", "echo printed; exit 3")
    assert "printed" in result(host, "/home/al/mail")
    host.sh("crontab -r -u al")


def test_what_others_start_is_no_job(host: LabHost):
    place = host.sh("systemd-run -q --wait --pipe -pUser=al -pPAMName=sudo cat /proc/self/cgroup")
    assert "user.slice" not in place


def test_files_of_pam_that_were_changed_by_hand_are_left_alone_and_told(host: LabHost, tmp_path: Path):
    host.sh(f"sed -i.mine 's/^session.*class=background.*/session optional pam_permit.so/' {PAM}")
    before = host.sh(STATE)
    assert "changed=1 " in apply(host, tmp_path, "sessions", "--check")
    failed = host.play(str(tmp_path / "play.yml"), check=False)
    assert failed.returncode != 0
    said = f"{PAM}: changed by hand: `session optional pam_systemd.so class=background` expected: put that back"
    assert said in " ".join(failed.stdout.split())
    assert host.sh(STATE) == before
    host.sh(f"mv {PAM}.mine {PAM}")
    assert "changed=0 " in apply(host, tmp_path, "sessions")


def test_what_an_interrupted_run_has_left_is_finished(host: LabHost, tmp_path: Path):
    before = host.sh(STATE)
    profile = "/usr/share/pam-configs/ds01-logins"
    host.sh(f"cp {profile} /root/; {UPDATE} --remove ds01-logins; mv /root/ds01-logins {profile}")
    assert "class=background" not in host.sh(f"cat {PAM}")
    assert "changed=1 " in apply(host, tmp_path, "sessions")
    assert host.sh(STATE) == before
