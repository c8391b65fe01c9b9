"""Registries: which address means which one, and which of them are this server itself."""

from __future__ import annotations

import socket

import pytest

from ds01.gateway.handlers import registries


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://index.docker.io/v1/access-token", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("ghcr.io", "ghcr.io"),
        ("http://registry.example.org:5000/v2/", "registry.example.org:5000"),
        ("localhost:5000", "localhost:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("evil.docker.io", "evil.docker.io"),
        ("http://10.0.0.1:8080#.docker.io", None),
        ("10.0.0.1:8080?.docker.io", None),
        ("https://ghcr.io@10.0.0.1/", None),
        ("https://ghcr.io/v1/?x", None),
        ("ghcr.io\\.docker.io", None),
        ("ghcr.io%2f.docker.io", None),
        ("ftp://ghcr.io", None),
        ("intranet", None),
        ("ghcr.io ", None),
        ("", None),
    ],
)
def test_an_address_means_one_server_or_none(address: str, found: str | None):
    assert registries.server(address) == found


@pytest.mark.parametrize(
    ("registry", "itself"),
    [
        ("127.0.0.1:5000", True),
        ("127.1:5000", True),
        ("2130706433:5000", True),
        ("0x7f.1", True),
        ("0.0.0.0:80", True),
        ("169.254.169.254", True),
        ("[::1]:5000", True),
        ("[::ffff:127.0.0.1]:5000", True),
        ("LocalHost:5000", True),
        ("x.localhost", True),
        (f"{socket.gethostname()}:5000", True),
        ("10.0.0.1:5000", False),
        ("[2001:db8::1]:5000", False),
        ("ghcr.io", False),
        ("docker.io", False),
    ],
)
def test_this_server_is_known_by_all_its_spellings(registry: str, itself: bool):
    assert registries.is_this_server(registry) == itself
