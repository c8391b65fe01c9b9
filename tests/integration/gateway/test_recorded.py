"""What the engine sees is what the gateway judged: not one request more, whatever clients send.

Between the two stands a recorder. Its bytes are read by h11, a parser that shares nothing with ours, and the engine's
own log says what it was called for; both must be exactly what the gateway means to have sent.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import h11
import pytest

from ds01.gateway.routes import ROUTES, Kind
from tests.integration.gateway.gateway_host import CODE, MAIN, GatewayHost
from tests.integration.gateway.gpu_host import until
from tests.integration.gateway.raw_requests import IMAGE, request
from tests.integration.gateway.test_parser import candidates

# The service as it is, with two ears: what a request is judged as, and what is sent to the engine because of it.
LISTENING_MAIN = f"""
import contextvars, json, pathlib, sys
sys.path.insert(0, "{CODE}")
from ds01.gateway import engine, handlers
from ds01.gateway.__main__ import main
log = open("/run/gw/judged", "a", buffering=1)
under = contextvars.ContextVar("under", default=None)
handle, call = handlers.handle, engine.Engine.call
async def judged(exchange, ownership):
    under.set(exchange.head.method + " " + exchange.head.target)
    await handle(exchange, ownership)
async def sent(self, method, path, **named):
    log.write(json.dumps([under.get(), method, path]) + chr(10))
    return await call(self, method, path, **named)
handlers.handle, engine.Engine.call = judged, sent
sys.argv[sys.argv.index("--engine") + 1] = "/run/gw/recorded.sock"
sys.exit(main(lambda path: json.loads(path.read_text())))
"""
RECORDER = """
import itertools, os, socket, threading
os.makedirs("/run/gw/seen", exist_ok=True)
listening = socket.socket(socket.AF_UNIX)
listening.bind("/run/gw/recorded.sock")
listening.listen(64)
def copy(source, sink, path, most):
    with open(path, "wb", buffering=0) as kept:
        try:
            while piece := source.recv(1 << 18):
                kept.write(piece[: max(0, most - kept.tell())])
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            sink.close()
for number in itertools.count():
    client, _ = listening.accept()
    engine = socket.socket(socket.AF_UNIX)
    engine.connect("/run/docker.sock")
    for ends, suffix, most in (((client, engine), "in", 1 << 24), ((engine, client), "out", 64)):
        threading.Thread(target=copy, args=(*ends, f"/run/gw/seen/{number}.{suffix}", most), daemon=True).start()
"""
COLLECT = """
import base64, glob, json, os
found = []
for path in glob.glob("/run/gw/seen/*.in"):
    # Each side of a connection has a thread of its own, which makes its file when it begins.
    if os.path.exists(path[:-2] + "out"):
        with open(path, "rb") as sent, open(path[:-2] + "out", "rb") as said:
            found.append([base64.b64encode(sent.read()).decode(), said.read().decode("latin-1")])
print(json.dumps(found))
"""


Requests = Counter[tuple[str, str]]
Views = tuple[list[Any], Requests, Requests, Requests]
VICTIM = "victim._.4321"
RAW = {"101", "200"}
"""What the engine answers when a request with an upgrade begins a raw stream."""


@pytest.fixture
def recorded(gateway: GatewayHost) -> Iterator[GatewayHost]:
    """The gateway with the recorder behind it, and an engine that says what it is called for."""
    host = gateway.host
    settings = host.sh("cat /etc/docker/daemon.json")
    host.write("/etc/docker/daemon.json", json.dumps(json.loads(settings) | {"debug": True}))
    host.write(f"{CODE}/recorder.py", RECORDER)
    host.write(f"{CODE}/main.py", LISTENING_MAIN)
    host.sh(
        f"""
        docker run -d --name {VICTIM} {IMAGE} sleep 299; systemctl stop gw.service; systemctl kill -s HUP docker
        rm -rf /run/gw/seen /run/gw/judged /run/gw/recorded.sock
        systemd-run -q --unit=recorder python3 {CODE}/recorder.py
        timeout 120 sh -c 'until test -S /run/gw/recorded.sock; do sleep 0.1; done'
        timeout 120 sh -c 'until docker info -f "debug={{{{.Debug}}}}" | grep -q =true; do sleep 0.1; done'
        journalctl --sync; date +%s.%N >/run/gw/begun; systemctl start gw.service
        """
    )
    yield gateway
    host.write("/etc/docker/daemon.json", settings)
    host.write(f"{CODE}/main.py", MAIN)
    host.sh("systemctl restart gw.service; systemctl stop recorder; systemctl kill -s HUP docker")


def requests_in(raw: bytes, answer: str) -> list[tuple[str, str]]:
    """The requests on one connection, by another parser than ours; what is behind a raw stream's head is none."""
    found = []
    while raw:
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        reader.receive_data(raw)
        event = reader.next_event()
        if not isinstance(event, h11.Request):
            break
        found.append((event.method.decode(), event.target.decode()))
        assert [value for name, value in event.headers if name == b"host"] == [b"docker"]
        if any(name == b"upgrade" for name, _ in event.headers) and answer[9:12] in RAW:
            break
        while isinstance(event := reader.next_event(), h11.Data):
            pass
        if not isinstance(event, h11.EndOfMessage):
            # The client went away in the middle of its body.
            break
        raw = reader.trailing_data[0]
    return found


def test_the_engine_sees_what_was_judged_and_nothing_else(recorded: GatewayHost):
    recorded.run("alice", "docker", "run", "-d", "--name", "box", IMAGE, "sleep", "299")
    hostile = pipelines(f"DELETE /containers/{VICTIM}?force=1")
    code = """
def main(requests):
    return [talk(raw.encode("latin-1"), wait=0.05)[:12] for raw in requests]
"""
    answers = recorded.python("alice", code, requests=[raw.decode("latin-1") for raw in hostile])
    assert "HTTP/1.1 200" in answers
    assert "HTTP/1.1 400" in answers
    ordinary(recorded)

    # What is still under way for what clients have left may not be in all three yet.
    def agree() -> Views | None:
        found = three_views(recorded)
        return found if found[1] == found[2] == found[3] else None

    said, sent, seen, called = until(agree) or three_views(recorded)
    assert len(sent) > 30
    assert seen == sent
    # The engine's own reading of it.
    assert called == sent
    # Nothing was sent for a request that was not judged, but what the gateway asks for itself.
    assert {method for judged, method, _ in said if judged is None} == {"GET"}
    assert recorded.inspect(VICTIM)["State"]["Running"]


def test_what_is_closed_is_nothing_that_the_engine_hears_of(recorded: GatewayHost):
    lines = closed()
    code = """
def main(requests):
    return [talk(raw.encode("latin-1"), wait=60)[:12] for raw in requests]
"""
    answers = recorded.python("alice", code, requests=[raw.decode("latin-1") for raw in lines.values()])
    refused = ("HTTP/1.1 400", "HTTP/1.1 403", "HTTP/1.1 404", "HTTP/1.1 503")
    assert {line: said for line, said in zip(lines, answers, strict=True) if said not in refused} == {}
    # The recorder listens: this is heard.
    recorded.sh("alice", "docker ps")

    def agree() -> Views | None:
        found = three_views(recorded)
        return found if found[1] == found[2] == found[3] else None

    said, sent, seen, called = until(agree) or three_views(recorded)
    assert called == seen == sent
    because = {judged: [] for judged, *_ in said if judged is not None}
    for judged, method, path in said:
        if judged is not None:
            because[judged].append((method, path))
    assert [judged for judged in because if "/containers/json" in judged] != []
    # To a closed endpoint at most the engine's version is asked for, which no client can say anything in.
    asked = {judged: calls for judged, calls in because.items() if judged in lines}
    assert {judged: calls for judged, calls in asked.items() if set(calls) != {("GET", "/_ping")}} == {}
    assert recorded.inspect(VICTIM)["State"]["Running"]


def closed() -> dict[str, bytes]:
    """Requests for everything that is not there for people, by method and target."""
    found: dict[str, bytes] = {}

    def add(line: str, *headers: str) -> None:
        with_body = line.startswith(("POST", "PUT", "PATCH"))
        found[line] = request(line, {"ListenAddr": "0.0.0.0:2377", "Driver": "host"} if with_body else b"", *headers)

    known = {(route.method, route.pattern) for route in ROUTES}
    for route in ROUTES:
        path = "/" + "/".join(route.pattern).replace("{id}", VICTIM).replace("{name}", "x/y")
        if route.kind is Kind.DENY:
            for version in ("", "/v1.24", "/v1.45"):
                add(f"{route.method} {version}{path}")
        for method in ("HEAD", "OPTIONS", "TRACE", "PATCH", "CONNECT", "PROPFIND"):
            if (method, route.pattern) not in known:
                add(f"{method} {path}")
        # With a slash at its end it is another path to some, and none here.
        add(f"{route.method} {path}/")
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    for path in ("/session", "/grpc", "/moby.buildkit.v1.Control/Solve", "/moby.buildkit.v1.Control/ListWorkers",
                 "/grpc.health.v1.Health/Check", "/moby.filesync.v1.FileSync/DiffCopy", "/metrics", "/debug/pprof/",
                 "/debug/pprof/profile", "/debug/vars/", "/v1.23/containers/json", "/v1.24/debug/vars"):  # fmt: skip
        for method in ("GET", "POST"):
            add(f"{method} {path}")
            add(f"{method} {path}?upgrade", *upgrade)
            # What is kept open behind the answer ends with this one.
            found[f"{method} {path}?upgrade"] += request("GET /nothing")
            add(f"{method} {path}?grpc", "Content-Type: application/grpc", "TE: trailers")
    # A client that knows beforehand that the server speaks HTTP/2 begins with this, and goes on with frames.
    found["preface"] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
    return found


def three_views(gateway: GatewayHost) -> Views:
    """For what the gateway meant to send which requests; what came by; and what the engine says it was called for."""
    said = [json.loads(line) for line in gateway.host.sh("cat /run/gw/judged").splitlines()]
    seen: Requests = Counter()
    for raw, answer in json.loads(gateway.host.run("python3", "-c", COLLECT).stdout):
        seen.update(requests_in(base64.b64decode(raw), answer))
    log = gateway.host.sh("journalctl --sync; journalctl -o cat -u docker --since=@$(cat /run/gw/begun)")
    called = Counter(re.findall(r"Calling ([A-Z]+) (/[^\"\s]*)", log))
    return said, Counter((method, path) for _, method, path in said), seen, called


def pipelines(smuggled: str) -> list[bytes]:
    """Requests that are nearly right, each followed by one that must be judged by itself or not at all."""
    behind = request(smuggled)
    upgrade = ("Connection: Upgrade", "Upgrade: tcp")
    found = [raw + behind for raw in candidates()[::12]]
    for line in ("GET /_ping", "GET /containers/box/logs?stdout=1", "POST /containers/box/attach?stream=1",
                 f"POST /exec/{'0' * 64}/start", "POST /containers/nobody/attach", "POST /session"):  # fmt: skip
        found += [request(line, {"Detach": True}, *upgrade) + behind, request(line, behind) + behind]
    return found


def ordinary(gateway: GatewayHost) -> None:
    """What people do all day."""
    compose = json.dumps({"services": {"web": {"image": IMAGE, "command": "sleep 99", "stop_signal": "KILL"}}})
    gateway.run("alice", "sh", "-c", "mkdir -p ~/seen; cat >~/seen/compose.yaml", stdin=compose.encode())
    gateway.sh(
        "alice",
        f"""
        docker exec -i box sh -c 'cat >/tmp/x' </etc/passwd; docker cp box:/tmp/x - | tar t; docker logs box
        tar c -C /etc passwd | docker cp - box:/tmp; docker run --rm -v data:/d {IMAGE} true; docker stats --no-stream
        docker rename box crate; docker update --cpus 0.5 crate; docker volume rm data; timeout 1 docker events
        cd ~/seen; docker compose up -d; docker compose up -d --scale web=2; docker compose down; docker rm -f crate
        """,
    )
