"""Requests as raw bytes, and what the engine has of them afterwards, whatever the gateway answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.integration.gateway.gateway_host import GatewayHost

IMAGE = "ds01-lab/base"
CREATE = "POST /containers/create?name=probe"
# As root, who becomes alice for the gateway and looks at the engine as nobody else can.
TALK = """
import json
def main(requests, uid, look):
    found = []
    for raw in requests:
        os.setegid(uid); os.seteuid(uid)
        try:
            answer = talk(raw.encode("latin-1"), wait=60)
        finally:
            os.seteuid(0); os.setegid(0)
        stored = None
        if look:
            # In the old form, in which no answer is cut into chunks.
            end = " HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n"
            said = talk(f"GET /containers/{look}/json{end}".encode(), "/run/docker.sock", 60)
            stored = json.loads(said.partition("\\r\\n\\r\\n")[2]) if " 200 " in said[:14] else None
            talk(f"DELETE /containers/{look}?force=1&v=1{end}".encode(), "/run/docker.sock", 60)
        found.append([answer, stored])
    return found
"""


def request(line: str, body: Any = b"", *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{line} HTTP/1.1", "Host: x", f"Content-Length: {len(content)}", *headers]
    if not any(header.startswith("Connection") for header in headers):
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def send(gateway: GatewayHost, requests: Mapping[str, bytes], look: str = "") -> dict[str, tuple[str, Any]]:
    """The answer to each request of alice's, and what the engine then has under the name `look`, which is removed."""
    raw = [value.decode("latin-1") for value in requests.values()]
    found = gateway.python("root", TALK, requests=raw, uid=gateway.uid["alice"], look=look)
    return dict(zip(requests, map(tuple, found), strict=True))


def create(gateway: GatewayHost, bodies: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """The same for creates; what is no object is a whole request."""
    requests = {
        name: body if isinstance(body, bytes) else request(CREATE, {"Image": IMAGE, **body})
        for name, body in bodies.items()
    }
    return send(gateway, requests, f"probe._.{gateway.uid['alice']}")
