"""Ask the engine over its own socket.

The docker command may be missing, or be a wrapper; the socket always tells the truth.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ..problems import ReportedError

SOCKET: Final = Path("/run/docker.sock")
"""Where every client looks for the engine: its own place, and the gateway's once that stands before it."""
MOVED: Final = Path("/run/ds01/engine/docker.sock")
"""Where the engine listens behind the gateway."""
ENGINE_SOCKETS: Final = (MOVED, SOCKET)
"""Where the engine itself listens: the first at which somebody does."""
_ANSWER_MAX: Final = 64 << 20
"""Bytes of one answer that are read: an inspect of thousands of containers is far below, a runaway stream is not."""


class EngineUnavailableError(ReportedError):
    """The engine does not answer, or not as an engine does."""


class NoSuchObjectError(EngineUnavailableError):
    """The engine answers that there is no such thing."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a local socket: the first path at which somebody listens."""

    def __init__(self, paths: Sequence[Path], timeout: float) -> None:
        """Take the paths, and seconds for each answer."""
        super().__init__("localhost", timeout=timeout)
        self._paths = paths

    def connect(self) -> None:
        """Connect. Raises OSError."""
        *others, last = self._paths
        for path in others:
            try:
                self._connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                # The file of a socket at which nobody listens any more may have stayed.
                continue
            return
        self._connect(last)

    def _connect(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise


class Engine:
    """A client of the engine's HTTP API: it reads, and starts, stops and removes containers."""

    def __init__(self, path: str | Path | None = None, *, timeout: float = 20.0) -> None:
        """Remember where the engine listens; nothing is opened yet.

        Args:
            path: The engine's socket; None for wherever it listens at that moment.
            timeout: Seconds to wait for each answer.
        """
        self._paths = ENGINE_SOCKETS if path is None else (Path(path),)
        self._name = str(path or "the engine")
        self._timeout = timeout

    def get(self, target: str) -> Any:
        """Return the JSON answer to one GET.

        Raises:
            EngineUnavailableError: No connection, no 2xx answer, or no JSON.
        """
        status, body = self._ask("GET", target)
        if status // 100 != 2:  # noqa: PLR2004 - the class of success
            raise EngineUnavailableError(f"{self._name}: GET {target} answered {status}")
        try:
            return json.loads(body) if body.strip() != b"OK" else "OK"
        except ValueError as error:
            raise EngineUnavailableError(f"{self._name}: GET {target} did not answer JSON: {error}") from error

    def start(self, container: str) -> None:
        """Start a container; one that runs stays as it is.

        Raises:
            EngineUnavailableError: It does not start, or there is no answer.
        """
        status, body = self._ask("POST", f"/containers/{quote(container)}/start")
        if status not in {http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED}:
            text = body.decode(errors="replace").strip()
            raise EngineUnavailableError(f"{self._name}: container {container[:12]} does not start: {text}")

    def stop(self, container: str, grace_s: int) -> None:
        """Ask the processes of a container to end, and end them after a time; one that is stopped stays so.

        Args:
            container: Its id.
            grace_s: Seconds that they have.

        Raises:
            EngineUnavailableError: It does not stop, or there is no answer.
        """
        target = f"/containers/{quote(container)}/stop?t={grace_s}"
        status, body = self._ask("POST", target, grace_s + self._timeout)
        if status not in {http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED}:
            text = body.decode(errors="replace").strip()
            raise EngineUnavailableError(f"{self._name}: container {container[:12]} does not stop: {text}")

    def remove(self, container: str) -> None:
        """Remove a container, never one that runs; its volumes stay.

        Raises:
            EngineUnavailableError: It is not removed, or there is no answer.
        """
        status, body = self._ask("DELETE", f"/containers/{quote(container)}?force=0&v=0")
        if status != http.HTTPStatus.NO_CONTENT:
            text = body.decode(errors="replace").strip()
            raise EngineUnavailableError(f"{self._name}: container {container[:12]} is not removed: {text}")

    def _ask(self, method: str, target: str, timeout_s: float | None = None) -> tuple[int, bytes]:
        connection = UnixConnection(self._paths, timeout_s or self._timeout)
        try:
            connection.request(method, target, headers={"Host": "docker"})
            response = connection.getresponse()
            body = response.read(_ANSWER_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailableError(f"{self._name}: no answer from the engine: {error}") from error
        finally:
            connection.close()
        if response.status == http.HTTPStatus.NOT_FOUND:
            raise NoSuchObjectError(f"{self._name}: {method} {target}: there is no such object")
        return response.status, body

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what happens from now on, as long as the engine runs; waits without a limit for the next event.

        Raises:
            EngineUnavailableError: No connection, or it broke.
        """
        connection = UnixConnection(self._paths, self._timeout)
        try:
            connection.connect()
            # Hours may pass between two events.
            connection.sock.settimeout(None)
            connection.request("GET", "/events", headers={"Host": "docker"})
            response = connection.getresponse()
            if response.status // 100 != 2:  # noqa: PLR2004 - the class of success
                raise EngineUnavailableError(f"{self._name}: GET /events answered {response.status}")
            while line := response.readline(_ANSWER_MAX):
                yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineUnavailableError(f"{self._name}: the events of the engine broke off: {error}") from error
        finally:
            connection.close()

    def info(self) -> dict[str, Any]:
        """Return what the running engine says of itself."""
        answer: dict[str, Any] = self.get("/info")
        return answer

    def containers(self) -> list[dict[str, Any]]:
        """Return the inspection of every container, stopped ones included; one that goes away meanwhile is left out.

        Raises:
            EngineUnavailableError: One of them cannot be inspected: then nobody may take it for gone.
        """
        found = []
        for row in self.get("/containers/json?all=1"):
            try:
                found.append(self.get(f"/containers/{quote(row['Id'])}/json"))
            except NoSuchObjectError:
                continue
        return found

    def answers(self) -> bool:
        """Whether the engine is there now."""
        try:
            return bool(self.get("/_ping") == "OK")
        except EngineUnavailableError:
            return False
