"""HTTP as commands speak it: whole answers whatever pieces they come in, and errors for those that are not whole."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.cli import wire
from ds01.cli.wire import Answer, BrokenAnswerError

Talk = Callable[[socket.socket], None]


@contextmanager
def served(talk: Talk) -> Iterator[str]:
    """Somebody who talks to the first who connects."""
    with TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as listening:
        path = str(Path(place, "s"))
        listening.bind(path)
        listening.listen()

        def run() -> None:
            connection, _ = listening.accept()
            with connection:
                talk(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield path
        finally:
            thread.join(60)


def answer(raw: bytes, method: str = "GET") -> Answer:
    return Answer(io.BufferedReader(io.BytesIO(raw)), method)  # type: ignore[arg-type] # raw enough


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=40)))
def test_content_is_whole_in_every_framing(pieces: list[bytes]):
    whole = b"".join(pieces)
    for head, content in (
        (b"Transfer-Encoding: Chunked", chunked(pieces)),
        (b"content-length: %d" % len(whole), whole + b"more"),
        (b"Connection: close", whole),
    ):
        raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n" + head + b"\r\n\r\n" + content
        assert (answer(raw).status, answer(raw).read()) == (200, whole)


@given(st.lists(st.text("ab", max_size=5)), st.lists(st.integers(1, 4)))
def test_lines_are_whole_wherever_chunks_end(lines: list[str], cuts: list[int]):
    text = "".join(f"{line}\n" for line in lines).encode() + b"end"
    pieces, at = [], 0
    for cut in [*cuts, len(text)]:
        pieces.append(text[at : at + cut])
        at += cut
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(pieces)
    assert list(answer(raw).lines()) == [*(line.encode() for line in lines), b"end"]


@given(st.integers(0, 90))
def test_an_answer_that_breaks_off_is_an_error(length: int):
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked([b"first", b"second" * 4])
    cut = raw[: min(length, len(raw) - 5)]
    with pytest.raises(BrokenAnswerError):
        answer(cut).read()


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 many\r\n\r\n"])
def test_what_is_no_answer_is_an_error(raw: bytes):
    with pytest.raises(BrokenAnswerError):
        answer(raw)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 204), ("POST", 304)])
def test_some_answers_have_no_content_whatever_they_say(method: str, status: int):
    assert answer(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n" % status, method).read() == b""


def test_a_refusal_in_the_middle_of_a_long_request_is_heard():
    def refuses(connection: socket.socket) -> None:
        connection.recv(1 << 10)
        connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")

    body = io.BytesIO(b"x" * (8 << 20))
    with served(refuses) as path, wire.asked(path, "POST", "/build", headers={}, body=body, timeout=60) as found:
        assert (found.status, found.read()) == (403, b"no")


@given(st.binary(max_size=200_000))
def test_a_file_is_sent_whole(content: bytes):
    heard = bytearray()

    def listens(connection: socket.socket) -> None:
        while not heard.endswith(b"0\r\n\r\n"):
            heard.extend(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with (
        served(listens) as path,
        wire.asked(path, "POST", "/x", headers={"A": "b"}, body=io.BytesIO(content), timeout=60) as found,
    ):
        assert found.read() == b""
    head, _, sent = bytes(heard).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\nHost: docker\r\n")
    assert b"\r\nA: b" in head
    assert answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sent).read() == content


def test_silence_ends_at_its_time():
    done = threading.Event()
    with served(lambda _: bool(done.wait(60))) as path:  # type: ignore[arg-type,return-value] # what it returns is not used
        try:
            with pytest.raises(TimeoutError), wire.asked(path, "GET", "/", headers={}, timeout=0.05):
                pass
        finally:
            done.set()
