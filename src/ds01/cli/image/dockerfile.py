"""The Dockerfile of an image: short, with a heading for each part, made to be read and edited by hand.

A part is a comment line and one RUN. Adding packages changes the part that has them and nothing else of the file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

import click

from ds01.problems import ReportedError, shown

SYSTEM: Final = "System packages"
OWN: Final = "Your packages"
_SYSTEM_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]*(=[A-Za-z0-9.+:~-]+)?")
_PIP_NAME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)")
_HEAD: Final = """# The image {name}. Edit it as you like, then run: image update {name}
FROM {base}
USER root
ENV PIP_NO_CACHE_DIR=1 PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore
"""
_PIP: Final = "RUN python3 -m pip install"
_APT_BEFORE: Final = "RUN apt-get update && apt-get install -y --no-install-recommends"
_APT_AFTER: Final = "&& rm -rf /var/lib/apt/lists/*"
_REQUIREMENTS: Final = """
# Your list of packages
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m pip install -r /tmp/requirements.txt
"""


def checked(packages: Iterable[str], *, system: bool = False) -> list[str]:
    """Return names of packages that can be in a Dockerfile. Raises click.UsageError."""
    found = [package for entry in packages for package in entry.split()]
    for package in found:
        fits = _SYSTEM_NAME.fullmatch(package) if system else _PIP_NAME.match(package)
        if not fits or not package.isprintable():
            kind = "a package of apt, like ffmpeg" if system else "a package of pip, like torchvision or 'numpy<2'"
            raise click.UsageError(f"{shown(package)}: not {kind}")
    return found


def made(
    name: str, base: str, parts: Sequence[tuple[str, Sequence[str]]], system: Sequence[str], *, requirements: bool
) -> str:
    """Return a new Dockerfile.

    Args:
        name: Of the image.
        base: The image to begin with.
        parts: Heading and packages of pip.
        system: Packages of apt.
        requirements: Whether there is a requirements.txt beside it.
    """
    text = _HEAD.format(name=name, base=base)
    if system:
        text += _apt(SYSTEM, system)
    text += "".join(_pip(title, packages) for title, packages in parts if packages)
    return text + (_REQUIREMENTS if requirements else "")


def with_packages(text: str, packages: Sequence[str]) -> str:
    """Return a Dockerfile with packages of pip added; another version of one takes the place of the earlier."""
    return _added(text, OWN, packages, system=False)


def with_system(text: str, packages: Sequence[str]) -> str:
    """Return a Dockerfile with packages of apt added."""
    return _added(text, SYSTEM, packages, system=True)


def bases_of(text: str) -> list[str]:
    """Return the images after each FROM, "" for one that cannot be read off the file."""
    found = re.findall(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return ["" if "$" in image else image for image in found]


def _added(text: str, title: str, packages: Sequence[str], *, system: bool) -> str:
    match = re.search(rf"^# {re.escape(title)}\n(RUN (?:[^\n]*\\\n)*[^\n]*)\n?", text, re.MULTILINE)
    present = [] if match is None else _present(title, match[1])
    key = _system_key if system else _key
    fresh = {key(package) for package in packages}
    merged = [*(package for package in present if key(package) not in fresh), *dict.fromkeys(packages)]
    part = (_apt if system else _pip)(title, merged)
    if match is not None:
        return text[: match.start()] + part.lstrip("\n") + text[match.end() :]
    if not system:
        return text.rstrip("\n") + "\n" + part
    # Before the packages of pip, some of which need them to be built.
    at = text.find("\n# ", text.find("FROM"))
    return text[:at] + "\n" + part.strip("\n") + "\n" + text[at:] if at >= 0 else text.rstrip("\n") + "\n" + part


def _present(title: str, step: str) -> list[str]:
    """Return the packages that a step of ours installs. Raises ReportedError for one that is not as we wrote it."""
    try:
        words = shlex.split(step.replace("\\\n", " "))
        found = words[words.index("install") + 1 :]
    except ValueError as error:
        raise ReportedError(
            f"the step under `# {title}` is no list of packages any more: change it by hand, or its heading"
        ) from error
    return [word for word in found[: found.index("&&") if "&&" in found else None] if not word.startswith("-")]


def _key(package: str) -> str:
    found = _PIP_NAME.match(package)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else package


def _system_key(package: str) -> str:
    # `g++` is another package than `g`.
    return package.partition("=")[0]


def _pip(title: str, packages: Iterable[str]) -> str:
    return f"\n# {title}\n{_PIP}{_lines(packages)}\n"


def _apt(title: str, packages: Iterable[str]) -> str:
    return f"\n# {title}\n{_APT_BEFORE}{_lines(packages)} \\\n    {_APT_AFTER}\n"


def _lines(packages: Iterable[str]) -> str:
    return "".join(f" \\\n    {shlex.quote(package)}" for package in packages)
