"""What to remove when containers, volumes and images take too much of the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ds01.ledger.disk import DiskUse
from ds01.policy.units import rounded_size

LIMIT: Final = "storage.docker"
_NAMED: Final = 3
_REMOVE: Final = {"container": "docker rm", "volume": "docker volume rm", "image": "docker rmi"}


def advice(uses: Sequence[DiskUse]) -> str:
    """Return how to get room: the biggest objects, and the commands that remove them."""
    return "Remove what you do not need: " + "; ".join(
        f"`{_REMOVE[use.kind]} {use.name}` ({rounded_size(use.bytes)})" for use in uses[:_NAMED]
    )
