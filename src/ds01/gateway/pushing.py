"""Names of registries that an image has only while it is pushed: nobody else may see or read it by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ds01.gateway.refusals import Refused


class Pushing:
    """Who pushes by which name, and which names must not move, since the engine is about to read what they mean."""

    def __init__(self) -> None:
        """Start with none."""
        self._pushed: dict[str, int] = {}
        self._read: Counter[str] = Counter()

    def hides(self, name: str, uid: int) -> bool:
        """Whether a name means somebody else's image at this moment."""
        return self._pushed.get(name, uid) != uid

    def settled(self, name: str) -> None:
        """See that nobody pushes by a name now. Raises Refused."""
        if name in self._pushed:
            raise _busy(name, "pushed")

    @contextmanager
    def push(self, name: str, uid: int) -> Iterator[None]:
        """Let a name mean somebody's image during the block. Raises Refused."""
        self.settled(name)
        if name in self._read:
            raise _busy(name, "read")
        self._pushed[name] = uid
        try:
            yield
        finally:
            del self._pushed[name]

    @contextmanager
    def reading(self, names: Iterable[str]) -> Iterator[None]:
        """Let names mean during the block what they mean now. Raises Refused."""
        kept = Counter(names)
        for name in kept:
            self.settled(name)
        self._read += kept
        try:
            yield
        finally:
            self._read -= kept


def _busy(name: str, done: str) -> Refused:
    return Refused(409, f"{name} is being {done} at this moment", "image.busy", "try again in a minute")
