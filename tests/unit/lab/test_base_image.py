"""The test image is a whole root filesystem."""

import io
import tarfile

from lab import base_image


def _members():
    with tarfile.open(fileobj=io.BytesIO(base_image.layer(b"\x7fELF", ["sh", "busybox", "dd"]))) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_every_command_is_a_link_to_the_one_binary():
    members = _members()
    assert members["bin/sh"].linkname == members["bin/dd"].linkname == "busybox"
    assert members["bin/busybox"].isreg()
    assert members["bin/busybox"].mode == 0o755


def test_everybody_may_write_tmp():
    assert _members()["tmp"].mode == 0o1777


def test_the_same_content_gives_the_same_bytes():
    assert base_image.layer(b"x", ["sh"]) == base_image.layer(b"x", ["sh"])
