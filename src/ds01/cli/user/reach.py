"""How one's own computer reaches this server: what to paste there."""

from __future__ import annotations

import os
import shlex
import socket
from dataclasses import dataclass
from typing import Final

import click

from ds01.cli.person import caller
from ds01.problems import shown

_SSH: Final = 22
ALIAS: Final = "lab"
"""What the server is called on one's own computer."""

server_option = click.option(
    "--server", metavar="NAME", help="What your computer calls this server.  [default: as you came]"
)


@dataclass(frozen=True)
class Server:
    """This server, seen from outside."""

    user: str
    host: str
    port: int = _SSH

    def config(self) -> str:
        """Return the lines for ~/.ssh/config."""
        user = f'"{self.user}"' if " " in self.user else self.user
        lines = [f"Host {ALIAS}", f"    HostName {self.host}", f"    User {user}"]
        lines += [f"    Port {self.port}"] if self.port != _SSH else []
        return "\n".join([*lines, "    ServerAliveInterval 60"])

    def login(self) -> str:
        """Return the command that logs in."""
        return shlex.join(["ssh", *self._port(), f"{self.user}@{self.host}"])

    def tunnel(self, local: int, there: int) -> str:
        """Return the command that makes a port of this server one of the own computer."""
        return shlex.join(["ssh", "-N", "-L", f"{local}:127.0.0.1:{there}", *self._port(), f"{self.user}@{self.host}"])

    def _port(self) -> list[str]:
        return ["-p", str(self.port)] if self.port != _SSH else []


def server(given: str | None) -> Server:
    """Return this server under the name given, or as the caller's connection knows it. Raises click.UsageError."""
    if given is not None and (not given.isprintable() or not given or given.startswith("-") or " " in given):
        raise click.UsageError(f"--server: {shown(given)}: the name or address of this server")
    # The client's address and port, the server's address and port.
    words = os.environ.get("SSH_CONNECTION", "").split()
    came = len(words) == 4 and words[3].isdecimal()  # noqa: PLR2004 - as above
    name = socket.gethostname()
    host = given or (words[2] if came and "." not in name else name)
    return Server(caller(), host, int(words[3]) if came else _SSH)
