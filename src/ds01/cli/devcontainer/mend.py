"""`devcontainer-check --fix`: what it finds and has one right answer to, put right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ds01.cli.devcontainer.check import ALL, TAKEN, me, wrong_user
from ds01.cli.devcontainer.make import HOME
from ds01.cli.person import caller


def mended(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a devcontainer.json should say; where there are several right answers, or none, it stays."""
    found = {name: value for name, value in data.items() if (name, value) != ("privileged", True)}
    arguments = data.get("runArgs") or []
    if not isinstance(arguments, list) or not all(isinstance(word, str) for word in arguments):
        return found
    kept, before = list(_kept(arguments)), arguments
    while kept != before:
        # What stood between two words may have kept them from being one option.
        kept, before = list(_kept(kept)), kept
    wants = data.get("hostRequirements")
    if isinstance(wants, dict) and wants.get("gpu"):
        found["hostRequirements"] = {name: value for name, value in wants.items() if name != "gpu"}
        # Before the others: the last one may lack its value, and would take this for it.
        kept = kept if any(word.startswith("--gpus") for word in kept) else ["--gpus", "1", *kept]
    if kept != arguments:
        found["runArgs"] = kept
    if wrong_user(data) is not None:
        found.pop("remoteUser", None)
        variables = data.get("containerEnv")
        found |= {
            "containerUser": me(),
            "updateRemoteUserUID": False,
            # Most images have no home for a number.
            "containerEnv": {"HOME": HOME, "USER": caller(), **(variables if isinstance(variables, dict) else {})},
        }
    return found


def _kept(arguments: list[str]) -> Iterator[str]:
    """Yield the arguments that may stay; an option and its value may be one word or two."""
    at = 0
    while at < len(arguments):
        word, value = arguments[at], arguments[at + 1 : at + 2]
        pair = " ".join([word, *value])
        if TAKEN.fullmatch(word) and ("=" in word or word == "--privileged"):
            at += 1
        elif word.startswith("--") and "=" not in word and TAKEN.fullmatch(pair):
            at += 2
        elif ALL.fullmatch(word):
            yield "--gpus=1"
            at += 1
        elif ALL.fullmatch(pair):
            yield from ("--gpus", "1")
            at += 2
        else:
            yield word
            at += 1
