"""Ways to say the same thing twice, or otherwise: each is read in one way here, or refused, and moves nothing."""

from __future__ import annotations

import json

from tests.integration.gateway.gateway_host import GatewayHost
from tests.integration.gateway.raw_requests import CREATE, IMAGE, request
from tests.integration.gateway.test_escapes import Probe

PRIVILEGED = b'"HostConfig":{"Privileged":true,"PidMode":"host"}'
START = b'{"Image":"' + IMAGE.encode() + b'"'
ETC = b'{"Type":"bind","Source":"/etc","Target":"/etc"}'
LINE = b"DELETE /containers/box?force=1 HTTP/1.1\r\n"

# Bodies of create that the engine reads otherwise than json.loads would.
BODIES = {
    "kelvin sign": START + ',"Networ\u212aMode":"host"}'.encode(),
    "long s inside": START + ',"HostConfig":{"Bind\u017f":["/etc:/x"]}}'.encode(),
    "merged objects": START + b',"HostConfig":{"Memory":1},"hostConfig":{"Privileged":true}}',
    "merged slices": START + b',"HostConfig":{"Mounts":[' + ETC + b'],"Mounts":[{"Target":"/x"}]}}',
    "null after": START + b"," + PRIVILEGED + b',"HostConfig":null}',
    "null before top": START + b',"HostConfig":null,"Privileged":true}',
    "byte order mark": b"\xef\xbb\xbf" + START + b"}",
    "not utf-8": START + b',"Hostname":"\xff\xfe"}',
    "half a surrogate": START + b',"Hostname":"\\ud800"}',
    "no number": START + b',"HostConfig":{"Memory":NaN}}',
    "exponent": START + b',"HostConfig":{"Memory":1e9}}',
    "too large": START + b',"HostConfig":{"Memory":9223372036854775808}}',
    "deep": START + b',"Labels":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "second value": START + b"}" + START + b"," + PRIVILEGED + b"}",
    "unknown": START + b',"HostConfig":{"CpuRealtime":1,"DevicesX":[]}}',
    "wrong type": START + b',"HostConfig":{"Privileged":"yes"}}',
    "list": b"[" + START + b"}]",
    "nothing": b"",
}
# Requests for alice's own container, which the engine would all have taken.
LINES = {
    # These two have one reading, and it is that of a container which is not alice's.
    "encoded letter": b"DELETE /%63ontainers%2fothers?force=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "encoded version": b"DELETE /v1%2e45%2fcontainers/others HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "twice encoded": b"DELETE /containers/b%256fx?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "odd version": b"DELETE /v1.45.0/containers/box?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "padded version": b"DELETE /v01.45/containers/box?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "two slashes": b"DELETE //containers/box?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "dot": b"DELETE /./containers/box?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "whole address": b"DELETE http://a@b:1/containers/box?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "semicolon": b"DELETE /containers/box?v=0;force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "two values": b"DELETE /containers/box?force=0&force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "other case": b"DELETE /Containers/box?force=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "lower method": LINE.lower().replace(b"http", b"HTTP") + b"Host: x\r\n\r\n",
    "old http": LINE.replace(b"1.1", b"1.0") + b"Host: x\r\n\r\n",
    "no host": LINE + b"\r\n",
    "two hosts": LINE + b"Host: x\r\nHost: y\r\n\r\n",
    "bare line feeds": LINE.replace(b"\r\n", b"\n") + b"Host: x\n\n",
    "folded": LINE + b"Host: x\r\nA: b\r\n c\r\n\r\n",
    "space before colon": LINE + b"Host : x\r\n\r\n",
    "two lengths": LINE + b"Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "signed length": LINE + b"Host: x\r\nContent-Length: +0\r\n\r\n",
    "listed length": LINE + b"Host: x\r\nContent-Length: 0, 0\r\n\r\n",
    "two codings": LINE + b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "packed coding": LINE + b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "both framings": LINE + b"Host: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "trailers": LINE + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
    "zero byte": LINE.replace(b"box", b"b%00x") + b"Host: x\r\n\r\n",
    "too many headers": LINE + b"Host: x\r\n" + b"A: b\r\n" * 101 + b"\r\n",
    "too long": LINE + b"Host: x\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
}


# Each answer ends the connection, so that nobody waits this long.
SEND = """
def main(requests):
    return [talk(raw.encode("latin-1"), wait=120) for raw in requests]
"""


def names(gateway: GatewayHost) -> list[str]:
    return sorted(gateway.host.sh("docker ps -a --format '{{.Names}}'").split())


def test_bodies_with_two_readings_make_nothing(gateway: GatewayHost):
    raw = [request(CREATE, body).decode("latin-1") for body in BODIES.values()]
    for (name, body), answer in zip(BODIES.items(), gateway.python("alice", SEND, requests=raw), strict=True):
        assert answer[9:12] in {"400", "403", "404"}, (name, body[:100], answer)
    assert names(gateway) == []
    # What an escape stands for is the same letter to everybody.
    escaped = START + b',"HostConfig":{"\\u0050rivileged":true}}'
    assert gateway.python("alice", SEND, requests=[request(CREATE, escaped).decode("latin-1")])[0][9:12] == "201"
    assert gateway.inspect(f"probe._.{gateway.uid['alice']}")["HostConfig"]["Privileged"] is False


def test_requests_with_two_readings_do_nothing(gateway: GatewayHost):
    gateway.run("alice", "docker", "run", "-d", "--stop-signal=KILL", "--name", "box", IMAGE, "sleep", "299")
    gateway.run("bob", "docker", "create", "--name", "others", IMAGE)
    raw = [line.decode("latin-1") for line in LINES.values()]
    for name, answer in zip(LINES, gateway.python("alice", SEND, requests=raw), strict=True):
        assert answer[9:12] in {"400", "404", "408", "431"}, (name, answer)
    assert gateway.inspect(f"box._.{gateway.uid['alice']}")["State"]["Running"]
    assert len(names(gateway)) == 2


def test_a_name_like_somebody_elses_id_is_only_a_name(gateway: GatewayHost):
    gateway.run("bob", "docker", "run", "-d", "--stop-signal=KILL", "--name", "box", IMAGE, "sleep", "299")
    bobs = f"box._.{gateway.uid['bob']}"
    identity = gateway.inspect(bobs)["Id"]
    for name in (identity[:12], identity[:4], identity):
        made = gateway.run("alice", "docker", "create", "--name", name, IMAGE, check=False)
        gateway.sh("alice", f"docker rm -f {name}; docker kill {name}; docker rename {name} x; docker rm -f x")
        assert gateway.inspect(bobs)["State"]["Running"], made.stderr
        assert gateway.inspect(bobs)["Name"] == f"/{bobs}"
    assert names(gateway) == [bobs]


def test_fields_that_wait_or_keep_busy_are_held(gateway: GatewayHost):
    probe = Probe(gateway)
    (answer, found), (_, endless) = probe.create(
        {"StopTimeout": 1 << 40, "MacAddress": "02:42:ac:11:00:02", "OnBuild": ["RUN x"],
         "HostConfig": {"KernelMemory": 1, "ContainerIDFile": "/etc/x", "OomScoreAdj": 5000, "Isolation": "hyperv"}},
        {"StopTimeout": -1},
    )  # fmt: skip
    assert found is not None, answer
    assert endless is not None
    assert found["Config"]["StopTimeout"] == endless["Config"]["StopTimeout"] == 60
    assert "--stop-timeout 1099511627776 is not offered" in answer
    assert "02:42:ac:11:00:02" not in json.dumps(found)
    assert not found["Config"].get("OnBuild")
    assert found["HostConfig"]["OomScoreAdj"] == 1000
    assert not found["HostConfig"].get("ContainerIDFile")
