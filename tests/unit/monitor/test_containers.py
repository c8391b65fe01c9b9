"""Containers that nobody made through DS01: what they are, whose, and which GPUs they reach."""

from __future__ import annotations

import pwd
from typing import Any

import pytest

from ds01.monitor.containers import Infrastructure, _sample

ALL: dict[str, Any] = {"DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]}
SOMEBODY = pwd.getpwall()[-1]


@pytest.mark.parametrize(
    ("name", "labels", "host", "kind", "names"),
    [
        # Raw, by root at the engine's own socket.
        ("raw", {}, {"Devices": [{"PathOnHost": "/dev/nvidia1"}]}, "unknown", ("1",)),
        ("raw", {}, ALL, "unknown", ("all",)),
        # AIME's own mlc-create, before DS01 came.
        (f"train._.{SOMEBODY.pw_uid}", {"aime.mlc": SOMEBODY.pw_name}, ALL, "aime", ("all",)),
        ("web", {"com.docker.compose.project": "p"}, ALL, "compose", ("all",)),
        ("box", {"devcontainer.local_folder": "/nowhere"}, {}, "devcontainer", ()),
        # Labels are free: neither a type that there is not, nor one of ours, makes a container managed.
        ("forged", {"ds01.type": "root"}, ALL, "unknown", ("all",)),
        ("forged", {"ds01.type": "managed", "ds01.user": "alice", "ds01.uid": "0"}, ALL, "managed", ("all",)),
    ],
)
def test_what_did_not_come_through_ds01_is_told_apart(
    name: str, labels: dict[str, str], host: dict[str, Any], kind: str, names: tuple[str, ...]
) -> None:
    inspected = {
        "Id": "c", "Name": f"/{name}", "Created": "2026-11-22T10:00:00.123456789Z", "State": {"Running": True},
        "Config": {"Labels": labels, "Env": []}, "HostConfig": host,
    }  # fmt: skip
    found = _sample(inspected, "runc", Infrastructure(), lambda *_: False)
    assert (found.type, found.names, found.managed, found.protected, found.token) == (kind, names, False, False, None)
    assert found.uid == (SOMEBODY.pw_uid if kind == "aime" else None)
