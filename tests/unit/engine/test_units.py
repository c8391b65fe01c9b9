"""What `systemctl cat` prints is read as systemd reads it."""

from __future__ import annotations

from ds01.engine import units

UNIT = """\
# /usr/lib/systemd/system/docker.service
[Service]
ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS
"""
OVERRIDE = """
# /etc/systemd/system/docker.service.d/other.conf
[Service]
ExecStart=
ExecStart=/usr/sbin/dockerd --mtu 1400
"""


def test_the_last_command_counts():
    assert units.exec_start(UNIT + OVERRIDE) == ["/usr/sbin/dockerd", "--mtu", "1400"]


def test_a_drop_in_that_is_about_to_go_does_not_count():
    ignored = {"/etc/systemd/system/docker.service.d/other.conf"}
    assert units.exec_start(UNIT + OVERRIDE, ignored)[1:3] == ["-H", "fd://"]


def test_options_of_the_defaults_file_are_part_of_it():
    options = r"--label 'a b' --label c\1"
    assert units.exec_start(UNIT, options=options)[-4:] == ["--label", "a b", "--label", r"c1"]


def test_continued_lines_and_prefixes():
    assert units.exec_start("# /a\nExecStart=-/usr/sbin/dockerd \\\n  -H fd://\n") == [
        "/usr/sbin/dockerd",
        "-H",
        "fd://",
    ]


def test_no_unit_is_no_command():
    assert units.exec_start("") == []
