"""The resources of the API at a socket, as the gateway gives them; who asks is said here and not by the kernel."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from urllib.parse import parse_qsl, urlsplit

from ds01.api import resources
from ds01.api.call import Asker
from ds01.api.desk import Desk
from ds01.api.errors import ApiError
from ds01.engine.api import Engine
from ds01.ledger import Ledger
from ds01.policy import Policy

LONG = "228755.very-long-name@students.example.org"
POLICY = {
    "default_group": "student",
    "defaults": {"max_mig_instances": 2, "max_containers_per_user": 3, "allow_full_gpu": True, "max_runtime": None},
    "groups": {"student": {"members": ["games", LONG]}},
}


class Server(ThreadingMixIn, UnixStreamServer):
    """Listens at a socket."""

    daemon_threads = True


def handler(path: Path, asker: Asker) -> type[BaseHTTPRequestHandler]:
    """Answers over HTTP."""
    tables = Policy.model_validate(POLICY).tables

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            split = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            names = split.path.split("/")[3:]
            with Ledger(path) as ledger:
                desk = Desk(tables, ledger, specs=False, engine=Engine(path / "none"))
                try:
                    query = dict(parse_qsl(split.query))
                    status, found = 200, resources.answer(desk, asker, self.command, names, query=query, body=body)
                except ApiError as error:
                    status, found = error.status, error.data
            content = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names of the base class

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name of the base class
            pass

        def address_string(self) -> str:
            return ""

    return Handler
