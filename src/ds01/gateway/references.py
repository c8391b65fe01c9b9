"""What images are called: in registries, in the engine, and by their owners.

A person's own images are below `ds01-<uid>/` in the engine, so that nobody's name is in anybody's way and no name of
everybody's can be moved by one. A tag that ends in `._.<uid>`, as AIME's commands write it, is that person's too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ds01.engine.owners import OWN_IMAGE, uid_in_image
from ds01.gateway.refusals import Refused

HUB: Final = "docker.io"
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?")
"""A registry: its host, and perhaps its port."""
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ID: Final = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")
_PORT: Final = re.compile(r"(.+)--([0-9]{1,5})")
"""A host with its port, as the first part of an own name: a colon cannot stand there."""
_LENGTH_MAX: Final = 255
DIGITS: Final = 64
"""Of a whole id."""
UNTAGGED: Final = "ds01-0/untagged"
"""Where images of somebody's own without a name are kept, below their space; nobody can type it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image as a registry knows it, in the short form that people use: `python`, `ghcr.io/org/tool`."""

    name: str
    tag: str | None = None
    digest: str | None = None

    @property
    def registry(self) -> str:
        """Host and port of its registry."""
        first, slash, _ = self.name.partition("/")
        return first if slash and is_host(first) else HUB

    @property
    def full(self) -> str:
        """The name with its registry, as an allow-list is compared with it."""
        if self.registry != HUB:
            return self.name
        return f"{HUB}/{self.name}" if "/" in self.name else f"{HUB}/library/{self.name}"

    @property
    def tagged(self) -> Reference:
        """The same with the tag that is meant when none is given."""
        return self if self.tag or self.digest else Reference(self.name, "latest")

    def __str__(self) -> str:
        """Return it as it is typed."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(typed: str) -> Reference:
    """Read a reference. Raises Refused."""
    rest, at, digest = typed.partition("@")
    head, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        rest = head
    else:
        tag = ""
    first, slash, path = rest.partition("/")
    if slash and first in {HUB, "index.docker.io"}:
        rest, first = path, ""
    hosted = bool(slash) and is_host(first)
    if not hosted:
        rest = rest.removeprefix("library/")
    if (
        len(rest) > _LENGTH_MAX
        or (hosted and not HOST.fullmatch(first))
        or not _PATH.fullmatch(path if hosted else rest)
        or (colon and "/" not in typed.rpartition(":")[2] and not at and not _TAG.fullmatch(tag))
        or (tag and not _TAG.fullmatch(tag))
        or (at and not _DIGEST.fullmatch(digest))
    ):
        raise Refused(
            400, f"invalid reference format: {typed[:80]!r} is not the name of an image", "image.name",
            "write it like python:3.12 or registry.example.org/group/tool:1",
        )  # fmt: skip
    return Reference(rest, tag or None, digest or None)


def image_id(typed: str) -> str | None:
    """The hexadecimal digits if something can be an id, or the beginning of one."""
    match = _ID.fullmatch(typed)
    return match[1] if match else None


def owner_of(reference: str) -> int | None:
    """Whose image is called so in the engine; None is everybody's."""
    return uid_in_image(reference.removeprefix(f"{HUB}/"))


def visible(reference: str, uid: int) -> bool:
    """Whether somebody may see an image by this name: it is everybody's, or theirs."""
    return owner_of(reference) in {None, uid}


def untagged(reference: str) -> bool:
    """Whether this only keeps an image without a name."""
    match = OWN_IMAGE.match(reference)
    return match is not None and match[2].startswith(f"{UNTAGGED}:")


def keeper(identity: str, uid: int) -> str:
    """The reference that keeps an image of somebody's without a name."""
    return f"ds01-{uid}/{UNTAGGED}:{identity.removeprefix('sha256:')}"


def to_owner(reference: str, uid: int) -> str:
    """What the owner calls an image; a name that is not theirs stays as it is."""
    prefix = f"ds01-{uid}/"
    if not reference.startswith(prefix):
        return reference
    first, slash, rest = reference.removeprefix(prefix).partition("/")
    port = _PORT.fullmatch(first)
    return f"{port[1]}:{port[2]}{slash}{rest}" if slash and port else first + slash + rest


def to_engine(reference: Reference, uid: int) -> str:
    """Return what the engine calls an own image, with its tag. Raises Refused for a name that cannot be one's own."""
    own = reference.name.removeprefix(f"ds01-{uid}/")
    if own != reference.name:
        # Their full spelling, as the engine has it, stays as it is.
        parse(to_owner(reference.name, uid))
    elif OWN_IMAGE.match(own + "/"):
        raise Refused(403, f"{str(reference)[:80]!r}: not a name for an image of yours", "image.name",
                      "choose a name that does not begin with ds01- and a number")  # fmt: skip
    else:
        first, slash, rest = own.partition("/")
        host, colon, port = first.partition(":")
        if slash and _PORT.fullmatch(first):
            raise Refused(403, f"{str(reference)[:80]!r}: not a name for an image of yours", "image.name",
                          "write a port behind a colon")  # fmt: skip
        own = (f"{host}--{port}" if colon else first) + slash + rest
    if not _PATH.fullmatch(own):
        raise Refused(403, f"{str(reference)[:80]!r}: not a name for an image of yours", "image.name",
                      "use lower-case letters, digits, . _ - and /")  # fmt: skip
    if reference.digest:
        return f"ds01-{uid}/{own}@{reference.digest}"
    return f"ds01-{uid}/{own}:{reference.tag or 'latest'}"


def is_host(first: str) -> bool:
    """Whether the first part of a name is a registry, and not the first part of a name at Docker Hub."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()
