"""Bodies: the same content however it arrives, and nothing of what follows."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.gateway import body
from ds01.gateway.head import Framing
from ds01.gateway.refusals import Malformed

HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD = {
    "extension": b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "bare line feed": b"3\nabc\n0\n\n",
    "trailer": b"0\r\nA: b\r\n\r\n",
    "negative": b"-3\r\nabc\r\n",
    "prefix": b"0x3\r\nabc\r\n",
    "blank": b" 3\r\nabc\r\n",
    "too long": b"100000003\r\nabc\r\n",
    "content longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
}


def feed(decoder: body.Decoder, raw: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """Feed in pieces of these sizes; return the content and what was left."""
    content, buffer, position = b"", bytearray(), 0
    while position < len(raw):
        size = cuts.pop(0) if cuts else len(raw)
        buffer += raw[position : position + size]
        position += size
        content += decoder.feed(buffer)
    return content, bytes(buffer)


@given(st.lists(st.binary(min_size=1, max_size=40)), st.binary(max_size=20), st.lists(st.integers(1, 9)))
def test_chunks_read_the_same_in_any_pieces(chunks: list[bytes], rest: bytes, cuts: list[int]):
    decoder = body.decoder(Framing(None, chunked=True))
    raw = b"".join(map(body.encode_chunk, chunks)) + body.last_chunk()
    content, left = feed(decoder, raw + rest, cuts)
    assert decoder.done
    assert (content, left) == (b"".join(chunks), rest)


@given(st.binary(max_size=50), st.binary(max_size=20), st.lists(st.integers(1, 9)))
def test_a_length_takes_exactly_its_bytes(content: bytes, rest: bytes, cuts: list[int]):
    decoder = body.decoder(Framing(len(content)))
    found, left = feed(decoder, content + rest, cuts)
    assert decoder.done
    assert (found, left) == (content, rest)


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_other_forms_of_chunks_are_refused(raw: bytes):
    with pytest.raises(Malformed):
        feed(body.decoder(Framing(None, chunked=True)), raw, [])


@pytest.mark.parametrize("framing", [Framing(3), Framing(None, chunked=True)])
def test_a_body_cut_off_is_noticed(framing: Framing):
    decoder = body.decoder(framing)
    decoder.feed(bytearray(b"1\r"))
    with pytest.raises(Malformed):
        decoder.end()


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"3", b"0", b"03", b"\r\n", b"\n", b"abc", b"a", b";x", b" ", b"-1", b"0x1", b"F", b"\r"]),
        max_size=12,
    ).map(b"".join)
)
def test_whatever_is_accepted_h11_reads_the_same(raw: bytes):
    decoder, buffer = body.decoder(Framing(None, chunked=True)), bytearray(raw)
    try:
        content = decoder.feed(buffer)
    except Malformed:
        return
    if not decoder.done:
        return
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(HEAD + raw)
    assert isinstance(theirs.next_event(), h11.Request)
    found = b""
    while isinstance(event := theirs.next_event(), h11.Data):
        found += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert found == content
    assert (theirs.trailing_data[0]) == bytes(buffer)
