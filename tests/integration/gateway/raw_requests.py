"""Requests as raw bytes, and what the engine has of them afterwards, whatever the gateway answered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.integration.gateway.gateway_host import GatewayHost

IMAGE = "ds01-lab/base"
CREATE = "POST /containers/create?name=probe"
# As root, who becomes alice for the gateway and looks at the engine as nobody else can. What a create made is whatever
# container was not there before it, under whatever name.
TALK = """
import json
def engine(method, path):
    # In the old form, in which no answer is cut into chunks.
    said = talk(f"{method} {path} HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n".encode(), "/run/docker.sock", 60)
    return json.loads(said.partition("\\r\\n\\r\\n")[2].encode("latin-1") or "null")
def there():
    return {row["Id"] for row in engine("GET", "/containers/json?all=1")}
def main(requests, uid, look):
    found = []
    before = there() if look else set()
    for raw in requests:
        os.setegid(uid); os.seteuid(uid)
        try:
            answer = talk(raw.encode("latin-1"), wait=60)
        finally:
            os.seteuid(0); os.setegid(0)
        made = there() - before if look else set()
        stored = [engine("GET", f"/containers/{each}/json") for each in made]
        for each in made:
            engine("DELETE", f"/containers/{each}?force=1&v=1")
        found.append([answer, stored])
    return found
"""


def request(line: str, body: Any = b"", *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{line} HTTP/1.1", "Host: x", f"Content-Length: {len(content)}", *headers]
    if not any(header.startswith("Connection") for header in headers):
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def _talk(gateway: GatewayHost, requests: Iterable[bytes], *, look: bool) -> list[tuple[str, list[Any]]]:
    raw = [value.decode("latin-1") for value in requests]
    found = gateway.python("root", TALK, requests=raw, uid=gateway.uid["alice"], look=look)
    return [(said, made) for said, made in found]


def send(gateway: GatewayHost, requests: Mapping[str, bytes]) -> dict[str, str]:
    """The answer to each request of alice's."""
    found = _talk(gateway, requests.values(), look=False)
    return {name: said for name, (said, _) in zip(requests, found, strict=True)}


def create(gateway: GatewayHost, bodies: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """For each create of alice's the answer, and the container that the engine then had, which is removed.

    What is no object is a whole request.
    """
    requests = [
        body if isinstance(body, bytes) else request(CREATE, {"Image": IMAGE, **body}) for body in bodies.values()
    ]
    found = {}
    for name, (said, made) in zip(bodies, _talk(gateway, requests, look=True), strict=True):
        assert len(made) < 2, (name, made)
        found[name] = (said, made[0] if made else None)
    return found
