"""Make a container as it was planned, or leave nothing behind."""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from ds01.cli import pull
from ds01.cli.container import person as inside
from ds01.cli.container.plan import WAIT_LABEL, Plan
from ds01.cli.engine import ANSWER_S, EngineError
from ds01.host.names import REQUEST_LABEL
from ds01.policy.units import parse_duration

if TYPE_CHECKING:
    from types import FrameType

    from ds01.cli.engine import Engine

    _Handler = Callable[[int, FrameType | None], None] | signal.Handlers

Say = Callable[[str], None]
_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)
"""What comes when somebody ends us, and when their connection breaks."""
_BASH: Final = ("/bin/bash", "/usr/bin/bash")
_BASHLESS: Final = 'exec: "bash": executable file not found'
_LOOK_S: Final = 0.3
_LATE_S: Final = 10.0
_LATE_QUEUED_S: Final = 1.0
"""A request that was cut off may still become a container: seconds between looks for it, and until the last one. Who
waited in the queue for a GPU does so no more; what was sent to the engine goes on, and a busy disk takes its time."""
_NOT_FOUND: Final = 404
_NO_FULL: Final = frozenset({"permission", "quota", "capacity", "unhealthy"})
"""Why somebody who prefers a full GPU takes what there is."""


@contextmanager
def made(engine: Engine, plan: Plan, say: Say, *, starts: bool = False) -> Iterator[dict[str, Any]]:
    """Make a container; what goes wrong inside the block, an interruption too, takes it away again.

    Args:
        engine: Where.
        plan: What it is.
        say: Takes what the owner is told meanwhile.
        starts: Whether `begin` is all that follows: it finds out for itself whether there is a shell, and a broken
            connection is an interruption to it. A program that runs would go on.

    Yields:
        The engine's answer: `Id`, and `Warnings` for its owner.

    Raises:
        EngineError: It cannot be made.
        click.ClickException: There is one of that name, or no such image.
    """
    _see_new(engine, plan.name)
    found = _image(engine, plan, say)
    request = secrets.token_hex(8)
    late_s = 0.0
    with contextlib.ExitStack() as ends:
        ends.enter_context(_on(_ENDS, _interrupt))
        try:
            repository, _, tag = plan.tag.rpartition(":")
            engine.ask("POST", "images", plan.image, "tag", query={"repo": repository, "tag": tag})
            labels = plan.labels((found.get("Config") or {}).get("Labels") or {}, request)
            late_s = _LATE_QUEUED_S if plan.wait else _LATE_S
            answer = _create(engine, plan, labels, say)
            _furnish(engine, plan, answer["Id"], look=not starts)
            if not starts:
                ends.close()
            yield answer
        except BaseException as error:
            answered = isinstance(error, EngineError) and error.status
            _undo(engine, plan, request, late_s=0.0 if answered else late_s)
            raise


def _see_new(engine: Engine, name: str) -> None:
    try:
        state = engine.ask("GET", "containers", name, "json")["State"]
    except EngineError as error:
        if error.status != _NOT_FOUND:
            raise
        return
    use, end = ("attach", "retire") if state.get("Running") else ("start", "remove")
    does = {"attach": "opens a shell in it", "start": "starts it"}[use]
    raise EngineError(
        f"{name}: you have a container of that name: `container {use} {name}` {does}, "
        f"`container {end} {name}` takes it away"
    )


def _create(engine: Engine, plan: Plan, labels: dict[str, str], say: Say) -> dict[str, Any]:
    def send(wished: Plan, labels: dict[str, str]) -> dict[str, Any]:
        answer: dict[str, Any] = engine.ask(
            "POST", "containers", "create", query={"name": plan.name}, body=wished.body(labels),
            timeout=waiting_s(labels),
        )  # fmt: skip
        return answer

    if plan.gpus.full:
        try:
            return send(plan, {name: value for name, value in labels.items() if name != WAIT_LABEL})
        except EngineError as error:
            if error.kind not in _NO_FULL:
                raise
            say(f"no full GPU now, so any will do: {error}")
            plan = replace(plan, gpus=replace(plan.gpus, full=False))
    if plan.wait:
        say(f"waiting up to {plan.wait} if no GPU is free; Ctrl-C gives up")
    return send(plan, labels)


def begin(engine: Engine, container: str, labels: dict[str, str]) -> None:
    """Start a container. Raises EngineError.

    Args:
        engine: Where it is.
        container: Its name or id.
        labels: Its labels.
    """
    try:
        engine.ask("POST", "containers", container, "start", timeout=waiting_s(labels))
    except EngineError as error:
        if _BASHLESS in str(error):
            raise _without_bash(container) from error
        raise


def waiting_s(labels: dict[str, str]) -> float:
    """Return how many seconds an answer may take for a container with these labels: some wait for a GPU."""
    wait = labels.get(WAIT_LABEL)
    return ANSWER_S + (parse_duration(wait) if wait else 0)


def _image(engine: Engine, plan: Plan, say: Say) -> dict[str, Any]:
    """Return what the engine knows of the image, fetched if it is not there."""
    try:
        found: dict[str, Any] = engine.ask("GET", "images", plan.image, "json")
    except EngineError as error:
        if error.status != _NOT_FOUND:
            raise
    else:
        return found
    say(f"fetching {plan.image}")
    try:
        pull.fetch(engine, plan.image)
    except EngineError as error:
        own = plan.image.rpartition("/")[2].partition(":")[0].lower()
        raise EngineError(
            f"{plan.image}: no such image here, and no registry gave it ({error}): `image list` shows yours, "
            f"`image create {own}` makes one",
            _NOT_FOUND,
        ) from error
    return engine.ask("GET", "images", plan.image, "json")  # type: ignore[no-any-return] # an object, by the API


def _without_bash(what: str) -> EngineError:
    return EngineError(f"{what}: an image without bash: add it to the image, or use `docker run`")


def _furnish(engine: Engine, plan: Plan, engine_id: str, *, look: bool) -> None:
    """Give the owner a name, a home and a shell in there."""
    needed = look and plan.command[:1] in {(), ("bash",)}
    if needed and not any(engine.exists("containers", engine_id, "archive", query={"path": path}) for path in _BASH):
        raise _without_bash(plan.image)
    files = {
        "/etc/passwd": inside.passwd(_file(engine, engine_id, "/etc/passwd"), plan.person),
        "/etc/group": inside.group(_file(engine, engine_id, "/etc/group"), plan.person),
    }
    archive = inside.home(plan.name, plan.person, files)
    engine.ask("PUT", "containers", engine_id, "archive", query={"path": "/"}, body=archive)


def _file(engine: Engine, engine_id: str, path: str) -> str:
    try:
        return inside.only_file(engine.fetch("containers", engine_id, "archive", query={"path": path}))
    except EngineError as error:
        if error.status != _NOT_FOUND:
            raise
        return ""


def _undo(engine: Engine, plan: Plan, request: str, *, late_s: float) -> None:
    """Take away what this command made, and nothing that another one did."""
    end = time.monotonic() + late_s
    with _on((signal.SIGINT, *_ENDS), signal.SIG_IGN), contextlib.suppress(EngineError):
        while not _taken_away(engine, request) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        # Two at the same time have one name for the image: it is that of whoever has the container.
        if not engine.exists("containers", plan.name, "json"):
            drop_tag(engine, plan.tag)


def _taken_away(engine: Engine, request: str) -> bool:
    """Remove the containers of a request. Returns whether there were any, and all could be removed."""
    try:
        rows = _of_request(engine, request)
        for row in rows:
            engine.ask("DELETE", "containers", row["Id"], query={"force": "1", "v": "1"})
    except EngineError:
        # The gateway may not have heard yet of what the engine has made.
        return False
    return bool(rows)


@contextmanager
def _on(numbers: Iterable[signal.Signals], act: _Handler) -> Iterator[None]:
    """Do something else on signals than usual, but for those that somebody ignores."""
    before = {number: signal.getsignal(number) for number in numbers}
    changed = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in changed:
            signal.signal(number, act)
        yield
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Whose connection breaks hears it twice: from their shell, and from the kernel.
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _of_request(engine: Engine, request: str) -> list[dict[str, Any]]:
    filters = f'{{"label": ["{REQUEST_LABEL}={request}"]}}'
    return engine.ask("GET", "containers", "json", query={"all": "1", "filters": filters}) or []


def drop_tag(engine: Engine, tag: str) -> None:
    """Take away the name that an image had only for one container; that it is kept or gone already is no fault."""
    with contextlib.suppress(EngineError):
        engine.ask("DELETE", "images", tag)


def say_warnings(answer: dict[str, Any]) -> None:
    """Tell the owner what became of their wishes."""
    for warning in answer.get("Warnings") or []:
        click.echo(f"note: {warning}", err=True)
