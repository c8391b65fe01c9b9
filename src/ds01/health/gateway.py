"""Does the gateway enforce? An unprivileged user tries to get out through it, and the engine says what became of it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import pwd
import secrets
import signal
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..engine import api
from .model import Check, failed, ok

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USER: Final = "nobody"
"""Whoever this is, the rules for members are theirs: an account that every system has, and nobody logs in with."""
_SECONDS: Final = 120
"""A machine that has everything to do at once takes its time; a gateway that hangs takes for ever."""
_ANSWER_MAX: Final = 1 << 20
_FIX: Final = "Nobody but administrators should use this host now. systemctl status ds01-gateway, then site.yml again."
_BY_THE_RULES: Final = {http.HTTPStatus.FORBIDDEN, http.HTTPStatus.CONFLICT}
"""How a policy that gives such a user nothing at all refuses: then there is nothing to look at."""
_JSON: Final = {"Content-Type": "application/json"}

Request = tuple[str, str, Any]
Answer = tuple[int, Any]


def check_gateway(gateway: Path = api.SOCKET, engine: Path = api.MOVED) -> Check:
    """The gateway lets ordinary users neither out of a container, nor at another one's, nor at the engine itself."""
    try:
        # Two checks at the same time are not in each other's way.
        image = f"ds01-health/probe-{secrets.token_hex(4)}"
        with _victim(engine, image) as victim:
            wrong = list(_attempts(gateway, engine, image, victim))
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return failed("gateway", f"nobody could try to get past it: {error!r}", _FIX)
    if wrong:
        return failed("gateway", "; ".join(wrong), _FIX)
    return ok("gateway", f"{USER} got neither root, nor another one's container, nor the engine itself")


def _attempts(gateway: Path, engine: Path, image: str, victim: str) -> Iterator[str]:
    """Yield what should not have happened."""
    name = f"ds01-probe-{secrets.token_hex(4)}"
    host = {"Privileged": True, "PidMode": "host", "CapAdd": ["ALL"], "Binds": ["/:/host"]}
    try:
        soft = {"Image": image, "Cmd": ["/probe"], "HostConfig": {"Privileged": True, "CgroupParent": "system.slice"}}
        hard = {"Image": image, "Cmd": ["/probe"], "HostConfig": host}
        said = as_user(
            gateway,
            [
                ("GET", "/ds01/v1/me", None),
                ("POST", f"/containers/create?name={name}-soft", soft),
                ("POST", f"/containers/create?name={name}-hard", hard),
                ("GET", f"/containers/{victim}/json", None),
                ("POST", f"/containers/{victim}/exec", {"Cmd": ["/probe"]}),
                ("DELETE", f"/containers/{victim}?force=1", None),
            ],
        )
        if not _is_member(said[0]):
            yield f"{gateway} does not know who asks: it answered {said[0]}"
        there = {row["Names"][0].lstrip("/"): row["Id"] for row in _ask(engine, "GET", "/containers/json?all=1")[1]}
        mine = {found: number for found, number in there.items() if found.startswith(name)}
        if any(found.startswith(f"{name}-hard") for found in mine):
            yield "a container with the host's root directory was made"
        if not mine and said[1][0] not in _BY_THE_RULES:
            yield f"no container could be made at all: {said[1][1]}"
        for number in mine.values():
            yield from _freedoms(_ask(engine, "GET", f"/containers/{number}/json")[1]["HostConfig"])
        if victim not in there.values() or any(status != http.HTTPStatus.NOT_FOUND for status, _ in said[3:]):
            yield "somebody else's container was seen, entered or removed"
        if _connects(engine):
            yield f"{engine}, the engine itself, answers {USER}"
    finally:
        _clean(engine, name)


def _is_member(said: Answer) -> bool:
    status, who = said
    known = status == http.HTTPStatus.OK and isinstance(who, dict)
    return known and who.get("user") == USER and not who.get("admin")


def _connects(engine: Path) -> bool:
    try:
        as_user(engine, [("GET", "/_ping", None)])
    except OSError:
        return False
    return True


def _freedoms(host: dict[str, Any]) -> Iterator[str]:
    """Yield what a container was given that nobody may have."""
    if host.get("Privileged") or host.get("PidMode") == "host" or host.get("Binds"):
        yield "a privileged container was made"
    if not str(host.get("CgroupParent", "")).startswith("ds01-"):
        yield f"a container was made in {host.get('CgroupParent') or 'no slice'}, outside the limits of its owner"


@contextlib.contextmanager
def _victim(engine: Path, image: str) -> Iterator[str]:
    """Yield a container that is somebody else's; it never runs."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("probe"))
    target = f"/images/create?fromSrc=-&repo={image}&tag=latest"
    _ask(engine, "POST", target, archive.getvalue(), {"Content-Type": "application/x-tar"})
    try:
        # By its name it is root's, so that nobody wonders whose it is.
        target = f"/containers/create?name=ds01-victim-{secrets.token_hex(4)}._.0"
        made = _ask(engine, "POST", target, json.dumps({"Image": image, "Cmd": ["/probe"]}).encode())
        victim = str(made[1]["Id"])
        try:
            yield victim
        finally:
            _ask(engine, "DELETE", f"/containers/{victim}?force=1")
    finally:
        _ask(engine, "DELETE", f"/images/{image}?force=1")


def _clean(engine: Path, name: str) -> None:
    """Remove what was made after all."""
    for row in _ask(engine, "GET", "/containers/json?all=1")[1]:
        if row["Names"][0].lstrip("/").startswith(name):
            _ask(engine, "DELETE", f"/containers/{row['Id']}?force=1&v=1")
    mark = f"._.{pwd.getpwnam(USER).pw_uid}"
    for row in _ask(engine, "GET", "/networks")[1]:
        if row["Name"].endswith(mark):
            _ask(engine, "DELETE", f"/networks/{row['Id']}")


def _ask(path: Path, method: str, target: str, body: bytes | None = None, headers: dict[str, str] = _JSON) -> Answer:
    connection = api.UnixConnection((path,), _SECONDS)
    try:
        connection.request(method, target, body=body, headers=headers)
        response = connection.getresponse()
        content = response.read(_ANSWER_MAX)
    finally:
        connection.close()
    try:
        return response.status, json.loads(content)
    except ValueError:
        # A ping, nothing at all, or the several values of an import.
        return response.status, content.decode(errors="replace")


def as_user(path: Path, requests: Sequence[Request]) -> list[Answer]:
    """Send requests as the test user, and return the answers. Raises OSError when that user cannot connect."""
    who = pwd.getpwnam(USER)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be(who, writing, path, requests)
    os.close(writing)
    with open(reading, "rb") as stream:  # noqa: PTH123 - a descriptor
        content = stream.read()
    os.waitpid(child, 0)
    if not content:
        raise OSError(f"{path}: {USER} could not ask")
    found = json.loads(content)
    if isinstance(found, str):
        raise OSError(found)
    return [(status, answer) for status, answer in found]


def _be(who: pwd.struct_passwd, writing: int, path: Path, requests: Sequence[Request]) -> None:
    """Become the test user, ask, write down the answers, and end: what runs here never returns."""
    signal.alarm(_SECONDS * 2)
    with contextlib.suppress(BaseException):
        os.setgroups([])
        os.setgid(who.pw_gid)
        os.setuid(who.pw_uid)
        try:
            found: Any = [
                _ask(path, method, target, None if body is None else json.dumps(body).encode())
                for method, target, body in requests
            ]
        except (OSError, http.client.HTTPException, ValueError) as error:
            found = f"{path}: {error}"
        os.write(writing, json.dumps(found).encode())
    os._exit(0)
