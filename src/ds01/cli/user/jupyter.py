"""`jupyter-setup`: JupyterLab in a container of one's own, and the line that brings it to one's own computer."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

import click

from ds01.cli.container.inside import told
from ds01.cli.container.naming import IMAGE_LABEL
from ds01.cli.container.options import json_option
from ds01.cli.container.own import name_argument
from ds01.cli.container.session import running
from ds01.cli.engine import Engine, EngineError
from ds01.cli.guide import guided
from ds01.cli.output import OK, plain, say_json
from ds01.cli.user import reach
from ds01.problems import shown

PORT: Final = 8888
_START_S: Final = 90.0
"""Seconds that it may take to start: a first start on a busy disk reads thousands of files."""
_LOOK_S: Final = 0.5
_TOKEN_MIN: Final = 16
_SHOWN: Final = 15
"""Lines of what it said."""
_LOG: Final = "/tmp/jupyter.log"  # noqa: S108 - in the container
_PID: Final = "/tmp/jupyter.pid"  # noqa: S108 - as above
# Whatever else is said stays in the container, for whoever asks why it did not start.
_HAS: Final = "import importlib.util, sys; sys.exit(importlib.util.find_spec('jupyterlab') is None)"
# What it says stays in the container, for whoever asks why it did not start.
_START: Final = f'echo $$ >{_PID}; exec "$@" >{_LOG} 2>&1'


@dataclass(frozen=True)
class Lab:
    """One JupyterLab."""

    container: str
    inner: int
    """Its port in the container."""
    outer: int
    """Its port on this server, which is on the loopback interface alone."""


@click.command()
@name_argument
@click.option("--port", type=click.IntRange(1, 65_535), default=PORT, show_default=True, help="On your computer.")
@click.option("--token", metavar="TEXT", help="Its password.  [default: one made up]")
@reach.server_option
@json_option
@guided(
    """JupyterLab runs in your container and is looked at in the browser of your computer. In between is ssh: nobody
    else reaches it, and whoever knows the token may use it, so do not pass that on. It ends with the container.""",
    following="paste the line in a terminal of your computer, leave that open, and open the address",
)
def jupyter(*, name: str, port: int, token: str | None, server: str | None, as_json: bool) -> int:
    """Start JupyterLab in a container, and say how to reach it."""
    if token is not None and (len(token) < _TOKEN_MIN or not token.isascii() or not token.isalnum()):
        raise click.UsageError(
            f"--token: {shown(token)}: at least {_TOKEN_MIN} letters and digits; others try short ones"
        )
    here = reach.server(server)
    found = running(Engine(), name)
    lab = _lab(name, found)
    there = _there(lab, found)
    # What is left in its list after a restart of the container does not answer.
    if there is None or not _answers(lab, there):
        there = token or secrets.token_hex(24)
        _start(lab, there)
    elif token not in {None, there}:
        raise EngineError(f"{name}: JupyterLab runs already, with another token: leave out --token")
    address = f"http://localhost:{port}/lab?token={there}"
    command = here.tunnel(port, lab.outer)
    if as_json:
        say_json({"container": name, "port": lab.outer, "token": there, "ssh": command, "address": address})
        return OK
    click.echo(f"JupyterLab runs in {name}. In a terminal of your computer, which stays open:\n\n{command}\n")
    click.echo(f"In its browser:\n\n{address}")
    return OK


def _lab(name: str, found: dict[str, Any]) -> Lab:
    """Return where JupyterLab is or will be. Raises EngineError for a container without a port."""
    published = (found.get("NetworkSettings") or {}).get("Ports") or {}
    ports = {
        int(inner.removesuffix("/tcp")): int(bound[0]["HostPort"])
        for inner, bound in published.items()
        if inner.endswith("/tcp") and bound
    }
    if not ports:
        raise EngineError(
            f"{name}: has no port to the outside, which is given when it is made: "
            f"`container deploy NAME IMAGE --publish {PORT}`, or `project launch`"
        )
    inner = PORT if PORT in ports else min(ports)
    return Lab(name, inner, ports[inner])


def _there(lab: Lab, found: dict[str, Any]) -> str | None:
    """Return the token of a JupyterLab that runs there, None for none. Raises EngineError where it is not installed."""
    has = told(lab.container, "python3", "-c", _HAS)
    if has is None:
        raise EngineError(f"{lab.container}: does not answer: `container list` says what it does")
    if has.returncode != 0:
        image = ((found.get("Config") or {}).get("Labels") or {}).get(IMAGE_LABEL, "IMAGE")
        raise EngineError(
            f"{lab.container}: has no JupyterLab: `image install {image} jupyterlab`, then make the container again"
        )
    done = told(lab.container, "python3", "-m", "jupyter_server", "list", "--jsonlist")
    try:
        rows = json.loads(done.stdout) if done is not None else []
    except ValueError:
        return None
    return next((str(row["token"]) for row in rows if row.get("port") == lab.inner and row.get("token")), None)


def _start(lab: Lab, token: str) -> None:
    """Start it, and see that it answers. Raises EngineError."""
    command = ["python3", "-m", "jupyterlab", "--no-browser", "--ip=0.0.0.0", f"--port={lab.inner}"]
    command += ["--ServerApp.port_retries=0", "--ServerApp.root_dir=/workspace", "--allow-root"]
    told(lab.container, "bash", "-c", f": >{_PID}")
    begun = told(
        lab.container, "bash", "-c", _START, "jupyter", *command, secrets={"JUPYTER_TOKEN": token}, detached=True
    )
    if begun is None or begun.returncode != 0:
        raise EngineError(
            f"{lab.container}: JupyterLab did not start: {begun.stderr.strip() if begun else 'no answer'}"
        )
    until = time.monotonic() + _START_S
    while not _answers(lab, token):
        alive = told(lab.container, "bash", "-c", f"! read -r pid <{_PID} || kill -0 $pid")
        if alive is None or alive.returncode != 0 or time.monotonic() > until:
            log = told(lab.container, "cat", _LOG)
            for line in (log.stdout if log else "").splitlines()[-_SHOWN:]:
                click.echo(f"      {plain(line)}", err=True)
            raise EngineError(f"{lab.container}: JupyterLab did not start; its last lines are above")
        time.sleep(_LOOK_S)


def _answers(lab: Lab, token: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", lab.outer, timeout=5)
    try:
        connection.request("GET", "/api/status", headers={"Authorization": f"token {token}"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
