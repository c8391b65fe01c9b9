"""Fetch images from registries, and show how far it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from ds01.cli.engine import EngineError, plainly

if TYPE_CHECKING:
    from ds01.cli.engine import Engine

_MIB: Final = 1 << 20


def fetch(engine: Engine, image: str) -> None:
    """Fetch an image; on a terminal a line says how much of it is there. Raises EngineError."""
    name, _, digest = image.partition("@")
    head, colon, last = name.rpartition(":")
    tag = digest or (last if colon and "/" not in last else "")
    query = {"fromImage": head if tag and not digest else name, "tag": tag or "latest"}
    layers: dict[str, tuple[int, int]] = {}
    shows = sys.stderr.isatty()
    try:
        for line in engine.stream("images", "create", query=query):
            if "error" in line:
                raise EngineError(f"{image}: {plainly(str(line['error']))}")
            detail = line.get("progressDetail") or {}
            if detail.get("total") and line.get("status") == "Downloading":
                layers[str(line.get("id"))] = (detail["current"], detail["total"])
                if shows:
                    done, total = (sum(pair[at] for pair in layers.values()) // _MIB for at in (0, 1))
                    click.echo(f"\r  {done} of {total} MiB ", nl=False, err=True)
    finally:
        if shows and layers:
            click.echo(err=True)
