"""`container start`, `stop`, `pause` and `unpause`."""

from __future__ import annotations

from typing import Any

import click

from ds01.cli.container.make import begin
from ds01.cli.container.options import json_option
from ds01.cli.container.own import chosen, for_each, inspected, names_argument
from ds01.cli.container.plan import STOP_S
from ds01.cli.engine import ANSWER_S, Engine, EngineError
from ds01.cli.guide import guided

_KILLED = 137
"""Exit code of what did not end by itself: 128 + SIGKILL."""
all_option = click.option("-a", "--all", "everything", is_flag=True, help="All of yours that this is for.")


@click.command()
@names_argument
@json_option
@guided(
    """A container that starts gets a GPU if it asked for one: the same as before while it is held for you, else another
    that is free. What was running in it is not started again; its files are as they were.""",
    following="`container attach {name}` opens a shell in it",
)
def start(*, names: tuple[str, ...], as_json: bool) -> int:
    """Start containers in the background."""
    engine = Engine()

    def act(name: str) -> str:
        found = inspected(engine, name)
        if found["State"].get("Running"):
            return f"{name} runs already"
        begin(engine, name, (found.get("Config") or {}).get("Labels") or {})
        return f"{name} runs: `container attach {name}`"

    return for_each(chosen(engine, names, everything=False), act, as_json=as_json)


@click.command()
@names_argument
@all_option
@click.option(
    "-t", "--time", "seconds", type=click.IntRange(0, 600), metavar="S",
    help=f"Seconds that programs have to end.  [default: {STOP_S}]",
)  # fmt: skip
@json_option
@guided(
    """Programs in the container are told to end (SIGTERM) and have a minute to save what they want to keep; only then
    are they killed. The container's files stay until it is removed, its GPU is held for you for a while.""",
    following="`container start {name}` continues, `container retire {name}` removes it and frees its GPU at once",
)
def stop(*, names: tuple[str, ...], everything: bool, seconds: int | None, as_json: bool) -> int:
    """Stop containers; their programs have time to end."""
    engine = Engine()
    return for_each(
        chosen(engine, names, everything=everything, state="running"),
        lambda name: stopped(engine, name, seconds),
        as_json=as_json,
    )


@click.command()
@names_argument
@all_option
@json_option
@guided(
    """A paused container stands still and keeps everything, also its memory and its GPU. To free a GPU, stop it.""",
    following="`container unpause {name}` lets it go on",
)
def pause(*, names: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Let containers stand still; they keep memory and GPU."""
    return _simple("pause", names, everything=everything, state="running", done="is paused", as_json=as_json)


@click.command()
@names_argument
@all_option
@json_option
@guided("A paused container goes on where it stood.", following="`container attach {name}` opens a shell in it")
def unpause(*, names: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Let paused containers go on."""
    return _simple("unpause", names, everything=everything, state="paused", done="goes on", as_json=as_json)


def stopped(engine: Engine, name: str, seconds: int | None) -> str:
    """Stop a container and see that it is; returns what to say. Raises EngineError."""
    found = inspected(engine, name)
    if not found["State"].get("Running"):
        return f"{name} is stopped already"
    own = (found.get("Config") or {}).get("StopTimeout")
    # What others made has the engine's 10 seconds; nobody's work is cut off after that here.
    seconds = (STOP_S if own is None else own) if seconds is None else seconds
    engine.ask("POST", "containers", name, "stop", query={"t": str(seconds)}, timeout=seconds + ANSWER_S)
    state: dict[str, Any] = inspected(engine, name)["State"]
    if state.get("Running"):
        raise EngineError(f"{name}: still runs: tell the administrator")
    if state.get("ExitCode") == _KILLED:
        return f"{name} is stopped; it did not end within {seconds} s and was killed"
    return f"{name} is stopped"


def _simple(verb: str, names: tuple[str, ...], *, everything: bool, state: str, done: str, as_json: bool) -> int:
    engine = Engine()

    def act(name: str) -> str:
        inspected(engine, name)
        engine.ask("POST", "containers", name, verb)
        return f"{name} {done}"

    return for_each(chosen(engine, names, everything=everything, state=state), act, as_json=as_json)
