"""Request heads: what is accepted reads the same everywhere, what could read differently is refused."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.gateway import head
from ds01.gateway.refusals import Malformed, Refused

GOOD = b"POST /v1.45/containers/create?name=x HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\n\r\n"
REFUSED = {
    "bare line feeds": b"GET /_ping HTTP/1.1\nHost: x\n\n",
    "one bare line feed": b"GET /_ping HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "folded line": b"GET /_ping HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "absolute target": b"GET http://x@y:1/_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "authority target": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk target": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.0": b"GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\n",
    "lower-case method": b"get /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /_ping HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /_ping HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "both framings": b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
    "list of lengths": b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n",
    "signed length": b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n",
    "stacked codings": b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "two codings": b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "blank before colon": b"GET /x HTTP/1.1\r\nHost : x\r\n\r\n",
    "zero byte": b"GET /x HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
    "leading empty line": b"\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab in request line": b"GET\t/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes beyond ASCII": "GET /x HTTP/1.1\r\nHost: x\r\nA: ä\r\n\r\n".encode(),
    "unknown expectation": b"GET /x HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n",
    "too many headers": b"GET /x HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n",
}


def test_a_real_head_is_read_whole():
    found = head.parse_request(GOOD)
    assert (found.method, found.target, found.framing.length) == ("POST", "/v1.45/containers/create?name=x", 2)
    assert found.get("host") == "docker"


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_what_others_read_differently_is_refused(raw: bytes):
    with pytest.raises(Refused):
        head.parse_request(raw)


def test_a_head_without_end_is_refused_at_its_limit():
    assert head.find_end(b"GET /x HTTP/1.1\r\n") == -1
    with pytest.raises(Malformed, match="longer than"):
        head.find_end(b"A" * head.HEAD_MAX)


PIECES = [
    b"GET", b"POST", b"HEAD", b"get", b" ", b"  ", b"/", b"/_ping", b"?a=b", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n",
    b"\r", b"Host: x", b"Host:x ", b"host: y", b"Content-Length: 3", b"Content-Length: 03", b"Content-Length: -1",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: identity", b"A: b", b"A:\tb",
    b": x", b"A", b"\t", b"\x00", b"\x7f", b"\xff", b"Connection: close", b"Upgrade: tcp", b"Expect: 100-continue",
]  # fmt: skip


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Heads that are nearly right: lines out of pieces, then a few bytes changed."""
    line = draw(
        st.sampled_from(
            [
                b"GET /_ping HTTP/1.1",
                b"POST /x?a=b HTTP/1.1",
                b"".join(draw(st.lists(st.sampled_from(PIECES), max_size=5))),
            ]
        )
    )
    fields = draw(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=12)), max_size=6))
    raw = bytearray(line + b"\r\nHost: x\r\n" + b"".join(field + b"\r\n" for field in fields))
    for _ in range(draw(st.integers(0, 2))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw) + b"\r\n"


@settings(max_examples=600, deadline=None)
@given(heads())
def test_whatever_is_accepted_h11_reads_the_same(raw: bytes):
    end = head.find_end(raw)
    if end < 0:
        return
    try:
        found = head.parse_request(raw[:end])
    except Refused:
        return
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(raw[:end])
    event = theirs.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target, event.http_version) == (found.method.encode(), found.target.encode(), b"1.1")
    assert [(name, value) for name, value in event.headers] == [
        (name.encode(), value.encode()) for name, value in found.headers
    ] or found.framing.chunked
    body = b"abc" if found.framing.length == 3 else b"3\r\nabc\r\n0\r\n\r\n" if found.framing.chunked else b""
    if found.framing.length in {0, 3} or found.framing.chunked:
        theirs.receive_data(body)
        data = b""
        while isinstance(following := theirs.next_event(), h11.Data):
            data += bytes(following.data)
        assert isinstance(following, h11.EndOfMessage)
        assert data == (b"abc" if body else b"")
