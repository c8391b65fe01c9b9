"""What a list of what is ignored says of a Dockerfile, beside what moby's patternmatcher says of it."""

from __future__ import annotations

import time

import pytest

from ds01.gateway import ignored


@pytest.mark.parametrize(
    ("listing", "path", "hidden"),
    [
        ("", "Dockerfile", False),
        ("Dockerfile", "Dockerfile", True),
        ("\ufeff Dockerfile \r\n", "Dockerfile", True),
        ("#Dockerfile\n", "Dockerfile", False),
        ("/Dockerfile\n", "Dockerfile", True),
        ("./a/../Dockerfile\n", "Dockerfile", True),
        ("../Dockerfile\n", "Dockerfile", False),
        ("dockerfile\n", "Dockerfile", False),
        ("*\n", "Dockerfile", True),
        ("*\n", ".dockerfile.x1", True),
        ("*\n", "docker/Dockerfile", True),
        ("*\n!Dockerfile\n", "Dockerfile", False),
        ("*\n! Dockerfile\nD?ckerfile", "Dockerfile", True),
        ("!Dockerfile\nDockerfile\n", "Dockerfile", True),
        ("*/Dockerfile\n", "Dockerfile", False),
        ("*/Dockerfile\n", "docker/Dockerfile", True),
        ("**/Dockerfile\n", "Dockerfile", True),
        ("**/Dockerfile\n", "a/b/Dockerfile", True),
        ("a/**/Dockerfile\n", "a/Dockerfile", True),
        ("a/**/c/**/Dockerfile\n", "a/b/b/c/Dockerfile", True),
        ("a/**/c/**/Dockerfile\n", "a/b/b/Dockerfile", False),
        ("Dockerfile/**\n", "Dockerfile", False),
        ("a/**\n", "a/Dockerfile", True),
        ("**\n", "Dockerfile", True),
        ("docker\n", "docker/Dockerfile", True),
        ("dock\n", "docker/Dockerfile", False),
        ("docker\n!docker/Dockerfile\n", "docker/Dockerfile", False),
        ("docker/Dockerfile\n!docker\n", "docker/Dockerfile", False),
        ("Docker.ile\n", "Dockerfile", False),
        # Not followed: what the client sent stays where it is.
        ("[D]ockerfile\n", "Dockerfile", False),
        ("Dockerfile\nother\\*\n", "Dockerfile", False),
        ("Dockerfile**\n", "Dockerfile", False),
        ("x\n" * 1000 + "Dockerfile\n", "Dockerfile", False),
    ],
)
def test_what_is_hidden(listing: str, path: str, hidden: bool):
    assert ignored.hides(listing.encode(), path) is hidden


@pytest.mark.parametrize("line", ["**/" * 30 + "x", "*a" * 120, "/".join(["*a" * 3] * 30)])
def test_no_list_takes_long(line: str):
    listing = "\n".join(f"{line}{number}" for number in range(990)).encode()
    before = time.process_time()
    assert not ignored.hides(listing, "/".join(["a" * 255] * 16))
    assert time.process_time() - before < 20
