"""Our grammar beside the engine's own reading: whatever we accept, it takes for the same one request."""

from __future__ import annotations

import random

from ds01.gateway import head, target
from ds01.gateway.refusals import Refused
from tests.integration.gateway.gateway_host import GatewayHost

LAST = b"GET /version HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n"
FIELDS = [
    b"Content-Length: 3", b"Content-Length: 03", b"Content-Length: 0", b"Content-Length: +3", b"Content-Length: 3, 3",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: identity",
    b"A: b", b"A:\tb ", b"A:",
    b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: tcp", b"Upgrade: h2c", b"Accept: */*", b" folded",
    b"A : b",
    b"Host: y", b"X-Registry-Auth: e30=", b"Cookie: a=b; c=d", b"TE: trailers", b"Trailer: A", b"Expect: 200-ok",
]  # fmt: skip


def candidates() -> list[bytes]:
    """Requests that are nearly right, the same ones each time."""
    choose = random.Random(20261122)  # noqa: S311 - to repeat, not to keep secret
    found = []
    for _ in range(2_000):
        method = choose.choice([b"GET", b"POST", b"HEAD", b"get", b"PUT"])
        path = choose.choice([b"/_ping", b"/v1.45/_ping?a=b", b"/x%2fy", b"/_ping?", b"/a//b"])
        line = method + b" " + path + b" HTTP/1.1"
        fields = [b"Host: x", *choose.sample(FIELDS, choose.randint(0, 3))]
        raw = bytearray(b"\r\n".join([line, *fields]) + b"\r\n\r\n")
        if choose.random() < 0.3:
            raw[choose.randrange(len(raw) - 4)] = choose.randrange(256)
        found.append(bytes(raw))
    return found


def test_the_engine_reads_what_we_accept_as_the_same_request(gateway: GatewayHost):
    accepted, methods = [], []
    for raw in candidates():
        try:
            if head.find_end(raw) != len(raw):
                continue
            request = head.parse_request(raw)
            target.parse(request.target)
        except Refused:
            continue
        if request.has_token("connection", "upgrade") or request.framing.length not in {0, 3, None}:
            continue
        content = b"3\r\nabc\r\n0\r\n\r\n" if request.framing.chunked else b"abc"[: request.framing.length or 0]
        accepted.append((raw + content + LAST).decode("latin-1"))
        methods.append(request.method)
    assert len(accepted) > 100
    code = """
def main(requests):
    return [talk(raw.encode("latin-1"), "/run/docker.sock", 60) for raw in requests]
"""
    for raw, method, answer in zip(accepted, methods, gateway.python("root", code, requests=accepted), strict=True):
        # One answer to the request, which the engine understood, then the one to what follows.
        assert answer.count("HTTP/1.1 ") == 2, (raw, answer)
        assert answer[9:12] in {"200", "404", "405"}, (method, raw, answer)
        assert '"ApiVersion"' in answer.partition("HTTP/1.1 ")[2].partition("HTTP/1.1 ")[2], (raw, answer)
