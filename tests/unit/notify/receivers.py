"""A mail server and a receiver of webhooks on this machine, which answer as a test says."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

WAIT_S = 60.0


@dataclass
class MailServer:
    """What it was sent, and what it answers."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    """Those that it said it took."""
    to: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """The numbers of all mails that came in whole, taken or not."""
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    login: str | None = None
    refuses: dict[str, str] = field(default_factory=dict)
    """Answer to a command instead of the usual one."""
    silent: bool = False
    """Whether it says nothing at all after the connection."""
    hangs: bool = False
    """Whether it keeps its answer to a whole mail for itself."""
    arrived: threading.Event = field(default_factory=threading.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._talk(reader, writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.silent:
            await reader.read()
            return
        encrypted, recipients = False, []
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            verb = line.split()[0].upper()
            if verb in self.refuses:
                writer.write(f"{self.refuses[verb]}\r\n".encode())
            elif verb == "EHLO":
                offers = ["250-here", *(["250-STARTTLS"] if self.tls and not encrypted else [])]
                offers += ["250-AUTH PLAIN"] if self.login else []
                writer.write("".join(f"{offer}\r\n" for offer in (*offers, "250 8BITMIME")).encode())
            elif verb == "STARTTLS":
                writer.write(b"220 go\r\n")
                await writer.drain()
                await writer.start_tls(self.tls)  # type: ignore[arg-type]  # offered only where there is one
                encrypted = True
            elif verb == "AUTH":
                self.logins.append(base64.b64decode(line.split()[2]).decode())
                writer.write(b"235 fine\r\n" if self.logins[-1] == self.login else b"535 no\r\n")
            elif verb == "RCPT":
                recipients.append(line)
                writer.write(b"250 fine\r\n")
            elif verb == "DATA":
                writer.write(b"354 go\r\n")
                raw = await reader.readuntil(b"\r\n.\r\n")
                mail = message_from_bytes(raw[:-3], policy=policy.default)
                assert isinstance(mail, EmailMessage)
                self.seen.append(str(mail["Message-ID"]))
                self.arrived.set()
                if self.hangs:
                    await reader.read()
                    return
                self.mails.append(mail)
                self.to += recipients
                self.encrypted.append(encrypted)
                writer.write(b"250 taken\r\n")
            else:
                writer.write(b"221 bye\r\n" if verb == "QUIT" else b"250 fine\r\n")
            await writer.drain()


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Run one."""
    state, loop, ready = MailServer(), asyncio.new_event_loop(), threading.Event()

    async def begin() -> None:
        server = await asyncio.start_server(state.serve, "127.0.0.1", 0)
        state.port = server.sockets[0].getsockname()[1]
        ready.set()

    def run() -> None:
        loop.create_task(begin())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(WAIT_S)
    yield state
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT_S)


@dataclass
class Webhook:
    """What it was posted, and what it answers next."""

    port: int = 0
    cards: list[dict[str, Any]] = field(default_factory=list)
    """All that was posted, taken or not."""
    paths: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """Codes to answer with, one after the other; then 202, as Teams does."""
    go: threading.Event = field(default_factory=threading.Event)
    """Until it is set, nothing is answered."""
    asked: threading.Event = field(default_factory=threading.Event)

    def texts(self, number: int = -1) -> list[str]:
        """Everything that can be read on a card."""
        body = self.cards[number]["attachments"][0]["content"]["body"]
        return [run["text"] for block in body for run in block["inlines"]]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Run one."""
    state = Webhook()
    state.go.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.cards.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            state.paths.append(self.path)
            state.asked.set()
            state.go.wait(WAIT_S)
            with suppress(ConnectionError):
                self.send_response(state.answers.pop(0) if state.answers else 202)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    state.go.set()
    server.shutdown()
    server.server_close()
    thread.join(WAIT_S)


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, ssl.SSLContext]:
    """Make a certificate that signs itself, and what serves with it."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key)]
    command += ["-out", str(cert), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context
