"""A whole connection, read by us and by h11: whatever we take for a request, it takes for the same one, byte by byte.

The two share no code. What we accept is what we judge, so it must have one reading: method, target, headers, body, and
where the next request begins. What we refuse is of no interest here; that good requests pass is a test of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import h11
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01.gateway import body, head, target
from ds01.gateway.refusals import Refused

HOSTILE = [
    b"Content-Length: 3", b"Content-Length: 03", b"Content-Length: +3", b"Content-Length: 3, 3", b"Content-Length:3 ",
    b"Content-Length: 0x3", b"Content-Length : 3", b"Content-Length:\t3", b"content-length: 0", b"Content-Length: \xb2",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding\x00: chunked",
    b"Transfer-Encoding: chunked\n", b"X: y\nTransfer-Encoding: chunked", b"X: y\rContent-Length: 9", b" folded: 1",
    b"\tTransfer-Encoding: chunked", b"X: a\r\n b", b"Host: y", b"Host:", b"host: z", b"X:\x00", b"X: \x7f", b"X: \xe9",
    b"Connection: close", b"Connection: Upgrade", b"Upgrade: tcp", b"Expect: 100-continue", b"TE: trailers",
    b"Trailer: X", b": none", b"", b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 3\r\nContent-Length: 4",
]  # fmt: skip
PLAIN = [b"Accept: */*", b"X-Registry-Auth: e30=", b"User-Agent: a (b)", b"Cookie: a=b; c", b"X:", b"X:  y  "]
LINES = [
    b"GET /_ping HTTP/1.1", b"POST /v1.45/containers/create?name=x HTTP/1.1", b"DELETE /containers/x?force=1 HTTP/1.1",
    b"HEAD /_ping HTTP/1.1", b"get /_ping HTTP/1.1", b"GET  /_ping HTTP/1.1", b"GET /_ping  HTTP/1.1",
    b"GET /_ping HTTP/1.0", b"GET /_ping HTTP/2.0", b"GET /_ping", b"GET /a b HTTP/1.1", b"GET http://x/y HTTP/1.1",
    b"GET /%00 HTTP/1.1", b"GET /a\tb HTTP/1.1", b"GET /a\x00 HTTP/1.1", b"GET /\xc3\xa9 HTTP/1.1", b"PRI * HTTP/2.0",
    b"OPTIONS * HTTP/1.1", b"GET /a#b HTTP/1.1", b"\r\nGET /_ping HTTP/1.1", b"GET /_ping HTTP/1.1 ",
    b" GET / HTTP/1.1",
]  # fmt: skip
BODIES = [
    b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3;x=y\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"3\r\nabcd\r\n0\r\n\r\n",
    b"03\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"3\r\nabc\r\n00\r\n\r\n", b"3\r\nabc\r\n0\r\n", b"-3\r\nabc\r\n", b"3\r\nabc0\r\n\r\n", b"0\r\n\r\n",
    b"A\r\n0123456789",
    b"3\r\nabc\r\n0;x\r\n\r\n", b"3\r\nabc\r\r\n0\r\n\r\n", b"ffffffff1\r\nabc\r\n", b"0\n\r\n", b"\r\n0\r\n\r\n",
]  # fmt: skip
ENDS = [b"\r\n\r\n"] * 6 + [b"\n\n", b"\r\n\n", b"\n\r\n", b"\r\r\n\r\n"]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Something like a request: a line, some headers, the end of the head, a body; then perhaps a byte is changed."""
    line = draw(st.sampled_from(LINES[:4]) | st.sampled_from(LINES))
    fields = draw(st.lists(st.sampled_from(PLAIN) | st.sampled_from(HOSTILE), max_size=3))
    host = draw(st.sampled_from([[b"Host: docker"]] * 4 + [[]]))
    raw = bytearray(b"\r\n".join([line, *draw(st.permutations(host + fields))]) + draw(st.sampled_from(ENDS)))
    raw += draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.sampled_from(b"\0\t\n\r :;,/0aA\x7f\xff"))
    return bytes(raw)


@dataclass(frozen=True)
class Read:
    """A request as somebody read it."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def ours(raw: bytes, cuts: list[int]) -> list[tuple[Read, int]]:
    """The requests that we would judge, and how many bytes were used up to the end of each."""
    found: list[tuple[Read, int]] = []
    buffer, rest = bytearray(), raw
    try:
        while rest or buffer:
            while (end := head.find_end(buffer)) < 0:
                if not rest:
                    return found
                size = cuts.pop() if cuts else len(rest)
                buffer += rest[:size]
                rest = rest[size:]
            request = head.parse_request(bytes(buffer[:end]))
            target.parse(request.target)
            del buffer[:end]
            decoder, content = body.decoder(request.framing), b""
            while True:
                content += decoder.feed(buffer)
                if decoder.done:
                    break
                if not rest:
                    return found
                size = cuts.pop() if cuts else len(rest)
                buffer += rest[:size]
                rest = rest[size:]
            # h11 writes codings in lower case, as which both read them.
            headers = tuple(
                (name.encode(), (value.lower() if name == "transfer-encoding" else value).encode())
                for name, value in request.headers
            )
            read = Read(request.method.encode(), request.target.encode(), headers, content)
            found.append((read, len(raw) - len(rest) - len(buffer)))
    except Refused:
        # The connection ends here; what was judged before is judged.
        pass
    return found


def theirs(raw: bytes) -> tuple[Read, int]:
    """The first request by h11, and how many bytes it has. Raises h11.RemoteProtocolError."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
    reader.receive_data(raw)
    request = reader.next_event()
    assert isinstance(request, h11.Request), request
    assert request.http_version == b"1.1"
    content = b""
    while isinstance(event := reader.next_event(), h11.Data):
        content += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert not event.headers, "trailers"
    headers = tuple((name, value) for name, value in request.headers)
    return Read(request.method, request.target, headers, content), len(raw) - len(reader.trailing_data[0])


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(messages(), min_size=1, max_size=3).map(b"".join), st.lists(st.integers(1, 40), max_size=30))
def test_what_we_accept_h11_reads_the_same(raw: bytes, cuts: list[int]):
    begin = 0
    for read, end in ours(raw, cuts):
        assert theirs(raw[begin:]) == (read, end - begin)
        begin = end


GOOD = st.builds(
    lambda line, fields, content, chunked: (
        b"\r\n".join([line, b"Host: docker", *fields])
        + (
            b"\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (body.encode_chunk(content) if content else b"")
            + body.last_chunk()
            if chunked
            else b"\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
        ),
        content,
    ),
    st.sampled_from(LINES[:4]),
    st.lists(st.sampled_from(PLAIN), max_size=3),
    st.binary(max_size=60),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=3), st.lists(st.integers(1, 40), max_size=30))
def test_good_requests_all_pass_however_they_arrive(good: list[tuple[bytes, bytes]], cuts: list[int]):
    raw = b"".join(request for request, _ in good)
    found = ours(raw, cuts)
    assert [read.body for read, _ in found] == [content for _, content in good]
    assert found[-1][1] == len(raw)
