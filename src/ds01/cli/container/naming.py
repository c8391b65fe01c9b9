"""Names as AIME MLC's tools expect them, so that both sets of tools work on the same containers."""

from __future__ import annotations

import re
from typing import Final

import click

from ds01.problems import shown

MARK: Final = "._."
NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,59}")
"""Their tools know no dots, and split options at spaces."""
IMAGE_LABEL: Final = "org.opencontainers.image.base.name"
"""Which image a container was made from, as its owner wrote it: its own tag says only whose it is."""


def checked(name: str) -> str:
    """Return a name for a container. Raises click.UsageError."""
    if not NAME.fullmatch(name):
        raise click.UsageError(
            f"NAME: {shown(name)}: not a name for a container: use up to 60 letters, digits, _ and -, "
            "and begin with a letter or digit"
        )
    return name


def private_tag(image: str, name: str, uid: int) -> str:
    """Return the tag that only this container uses: their `mlc-remove` takes the tag away with the container."""
    repository = image.partition("@")[0]
    head, colon, last = repository.rpartition(":")
    if colon and "/" not in last:
        repository = head
    # The address of a registry is no part of a name of one's own.
    repository = re.sub(r"[^a-z0-9._/-]+", "-", repository.removeprefix(f"ds01-{uid}/").lower())
    return f"{repository}:{name}{MARK}{uid}"


def is_private(reference: str, uid: int) -> bool:
    """Whether a reference is the tag of one container."""
    return reference.endswith(f"{MARK}{uid}")
