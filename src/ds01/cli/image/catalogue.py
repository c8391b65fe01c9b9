"""Where images begin: AIME's list if the server has it, a few of our own, or any image by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from ds01.cli.output import listing
from ds01.problems import shown

AIME: Final = Path("/opt/aime-ml-containers/ml_images.repo")
"""AIME MLC's list: framework, version, [ARCH;ARCH], image."""
_FIELDS: Final = 4


@dataclass(frozen=True)
class Base:
    """An image to begin with."""

    framework: str
    version: str
    image: str
    packages: tuple[str, ...] = ()
    """What pip installs where no image has the framework."""
    architectures: tuple[str, ...] = ()


OWN: Final = (
    Base("pytorch", "2.5.1", "pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime"),
    Base("tensorflow", "2.18.0", "tensorflow/tensorflow:2.18.0-gpu"),
    Base("jax", "latest", "python:3.12-slim", ("jax[cuda12]",)),
    Base("python", "3.12", "python:3.12-slim"),
)
"""Public images of the projects themselves, for servers without AIME's list."""


def bases(path: Path = AIME) -> list[Base]:
    """Return everything to choose from, AIME's first. A line that is none of theirs is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return [*(base for line in lines if (base := _parsed(line)) is not None), *OWN]


def chosen(wanted: str, found: list[Base]) -> Base:
    """Return what `FRAMEWORK` or `FRAMEWORK-VERSION` means: the first that fits. Raises click.UsageError."""
    framework, _, version = wanted.lower().partition("-")
    for base in found:
        if base.framework.lower() == framework and (not version or base.version.lower() == version):
            return base
    names = sorted({base.framework.lower() for base in found})
    versions = [base.version for base in found if base.framework.lower() == framework]
    known = f"{framework} in {', '.join(versions)}" if versions else ", ".join(names)
    raise click.UsageError(f"--framework: {shown(wanted)}: here are {known}; or give any image with --image")


def shown_bases(found: list[Base]) -> str:
    """Return a list for people."""
    rows = [["FRAMEWORK", "VERSION", "IMAGE"], *([base.framework, base.version, base.image] for base in found)]
    return listing(rows)


def _parsed(line: str) -> Base | None:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != _FIELDS or not all(fields) or line.lstrip().startswith("#"):
        return None
    architectures = tuple(part for part in re.split(r"[;\s]+", fields[2].strip("[]")) if part)
    return Base(fields[0].lower(), fields[1], fields[3], architectures=architectures)
