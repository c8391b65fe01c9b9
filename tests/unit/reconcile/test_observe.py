"""What an inspected container reaches, in every form in which people ask for GPUs."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from ds01.engine.api import Engine, EngineUnavailableError
from ds01.gpu.xid import State
from ds01.reconcile.containers import ALL, seen_container
from ds01.reconcile.follow import Follower, matters
from ds01.reconcile.observe import look_at_gpus


def container(host: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    return {
        "Id": "a" * 64,
        "Name": "/work._.4999",
        "Created": "2026-11-22T10:00:00.123456789Z",
        "State": {"Running": True},
        "HostConfig": host or {},
        "Config": config,
    }


def request(**fields: Any) -> dict[str, Any]:
    return {"DeviceRequests": [{"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]]} | fields]}


@pytest.mark.parametrize(
    ("host", "env", "names"),
    [
        ({}, ["NVIDIA_VISIBLE_DEVICES=all"], set()),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=all"], {ALL}),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=0:1,GPU-x"], {"0:1", "GPU-x"}),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=void"], set()),
        (request(Count=-1), [], {ALL}),
        (request(Count=2), [], {"0", "1"}),
        # The engine takes any number at a create; nobody counts to a billion for it.
        (request(Count=65), [], {ALL}),
        (request(DeviceIDs=["MIG-1"]), [], {"MIG-1"}),
        (request(Driver="cdi", DeviceIDs=["nvidia.com/gpu=0:1", "example.org/nic=1"], Capabilities=None), [], {"0:1"}),
        ({"Devices": [{"PathOnHost": "/dev/nvidia3"}, {"PathOnHost": "/dev/nvidiactl"}]}, [], {"3"}),
    ],
)
def test_gpus_without_a_lease_are_seen(host: dict[str, Any], env: list[str], names: set[str]) -> None:
    found = seen_container(container(host, Env=env), "runc")
    assert found.names == names
    assert found.token is None
    assert (found.uid, found.running, found.created) == (4999, True, 1795341600123)


@pytest.mark.parametrize(
    ("state", "policy", "left"),
    [
        ({}, "always", True),
        ({}, "unless-stopped", True),
        ({}, "no", False),
        ({"Running": True}, "always", False),
        ({"Error": ""}, "always", False),
        ({"Error": "CDI device injection failed: unresolvable CDI devices ds01.io/gpu=x"}, "always", False),
    ],
)
def test_what_the_engine_started_too_early_is_left_behind(state: dict[str, Any], policy: str, *, left: bool) -> None:
    early = {"Running": False, "Error": 'could not select device driver "cdi" with capabilities: []'}
    host = request(Driver="cdi", DeviceIDs=[f"ds01.io/gpu={'1' * 32}"]) | {"RestartPolicy": {"Name": policy}}
    assert seen_container(container(host) | {"State": early | state}, "runc").left_behind == left
    others = request(Driver="cdi", DeviceIDs=["nvidia.com/gpu=0"]) | {"RestartPolicy": {"Name": policy}}
    assert not seen_container(container(others) | {"State": early | state}, "runc").left_behind


def test_a_claim_is_known_by_what_the_engine_injects_not_by_a_label() -> None:
    host = request(Driver="cdi", DeviceIDs=["ds01.io/gpu=" + "c" * 32], Capabilities=None)
    labels = {"ds01.gpu.token": "d" * 32, "ds01.group": "student", "ds01.gpu.request": "count=1 memory_bytes=5"}
    found = seen_container(container(host, Labels=labels), "runc")
    assert (found.token, found.group, found.request) == ("c" * 32, "student", '{"count": 1, "memory_bytes": 5}')
    assert found.names == set()
    assert seen_container(container({}, Labels=labels), "runc").token is None
    # An image may carry any label.
    for text in (
        "{",
        "",
        "count=1  full=true",
        "count=-1",
        "full=no",
        "count=1 count=2",
        "a" * 10**6,
        "devices=0" + " devices=0" * 64,
    ):
        assert seen_container(container(host, Labels={"ds01.gpu.request": text}), "runc").request == "{}"


@pytest.mark.parametrize(("action", "expected"), [("die", True), ("exec_start: sh", False)])
def test_what_can_change_nothing_is_no_reason_to_look(action: str, expected: bool) -> None:
    assert matters({"Type": "container", "Action": action}) == expected


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[Path, dict[str, tuple[int, Any]]]]:
    """An engine that says what a healthy one cannot be made to say."""
    answers: dict[str, tuple[int, Any]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    path = tmp_path / "docker.sock"
    with ThreadingUnixStreamServer(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield path, answers
        server.shutdown()


@pytest.mark.parametrize("status", [500, 503])
def test_a_container_that_cannot_be_inspected_is_not_taken_for_gone(
    answering: tuple[Path, dict[str, tuple[int, Any]]], status: int
) -> None:
    path, answers = answering
    answers["/containers/json?all=1"] = (200, [{"Id": "one"}, {"Id": "two"}])
    answers["/containers/one/json"] = (404, {})
    answers["/containers/two/json"] = (200, {"Id": "two"})
    assert Engine(path).containers() == [{"Id": "two"}]
    answers["/containers/two/json"] = (status, {})
    with pytest.raises(EngineUnavailableError, match=str(status)):
        Engine(path).containers()


def test_an_event_is_a_reason_to_look_and_a_broken_stream_too(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    passes: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            for action in ("exec_start: sh", "die"):
                self.wfile.write(json.dumps({"Type": "container", "Action": action}).encode() + b"\n")
            # And the engine restarts.

        def log_message(self, *_: Any) -> None:
            pass

    follower = Follower(lambda: Engine(path), lambda: passes.put("looked"), every_s=60)
    running = threading.Thread(target=follower.run)
    running.start()
    try:
        assert passes.get(timeout=120) == "looked", "at the start, engine or not"
        with ThreadingUnixStreamServer(str(path), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for _ in range(3):
                assert passes.get(timeout=120) == "looked"
            server.shutdown()
    finally:
        follower.stop()
        running.join(timeout=120)
    assert not running.is_alive()


def test_a_gpu_is_judged_with_each_look(nvml_server) -> None:
    server = nvml_server(["A100-80"] * 3, {1: ["3g.40gb"]})
    assert [one.state for one in look_at_gpus().health] == [State.OK] * 3
    server.fault(1, "ecc-uncorrected", 2)
    server.fault(2, "lost", 1)
    seen = look_at_gpus()
    assert [one.state for one in seen.health] == [State.OK, State.UNHEALTHY, State.UNHEALTHY]
    server.unload_driver()
    assert look_at_gpus().inventory is None
    assert look_at_gpus().health == ()
