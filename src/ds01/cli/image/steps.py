"""Build an image: send its directory, show each step, and say which one failed and what may help."""

from __future__ import annotations

import re
import tarfile
import tempfile
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import click

from ds01.cli.engine import Engine, EngineError, plainly
from ds01.cli.image import dockerfile
from ds01.cli.output import FAILED, OK, plain, say_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_IN_MEMORY: Final = 8 << 20
_CONTEXT_MAX: Final = 1 << 30
"""Bytes: nobody means to send data sets; the server would keep a copy in the image's layers."""
_SHOWN: Final = 15
"""Lines of a failed step."""
_STEP: Final = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_COLUMNS: Final = 60
_OURS: Final = "LABEL ds01."
"""Steps that nobody wrote: the gateway's labels."""
_ENGINE_SAYS: Final = (" ---> ", "Removing intermediate", "Removed intermediate")
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""Colours that the engine puts around what went to standard error."""
_HINTS: Final = {
    r"No matching distribution|Could not find a version": "there is no such package, or not that version "
    "for this Python: look at its name on pypi.org",
    r"Unable to locate package": "apt knows no such package: look at its name on packages.debian.org",
    r"Temporary failure in name resolution|Could not resolve|Network is unreachable|Connection timed out": "the build "
    "did not reach the internet: try again; if it stays so, tell the administrator",
    r"No space left|[Dd]isk quota": "no room: `image list` shows what you have, `image delete` frees some",
    r"pull access denied|manifest .*unknown|manifest for .* not found|repository does not exist|No such image": "the "
    "image after FROM does not exist: look at its name and tag",
    r"ResolutionImpossible|conflicting dependencies": "two packages want different versions of a third: give one of "
    "them without a version",
    r"Killed|code: 137": "the step needed more memory than you may use",
    r"not found|code: 127": "the step runs a program that the image does not have",
}
"""What the output of a failed step says, and what may help."""


def build(name: str, directory: Path, *, fresh: bool, verbose: bool, as_json: bool = False) -> int:
    """Build the image of a directory and say how it goes.

    Args:
        name: Of the image.
        directory: Has the Dockerfile.
        fresh: Whether every step is made again, and the base image is looked for in its registry.
        verbose: Whether all output is shown.
        as_json: Whether the outcome is said as JSON.

    Returns:
        The exit code.

    Raises:
        EngineError: The build is refused, or the engine does not answer.
        OSError: The directory cannot be read.
    """
    engine = Engine()
    query = {"t": name, "dockerfile": "Dockerfile", "rm": "1"}
    bases = dockerfile.bases_of((directory / "Dockerfile").read_text(encoding="utf-8"))
    if fresh:
        query["nocache"] = "1"
        if bases and all(_from_registry(engine, base) for base in bases):
            query["pull"] = "1"
    progress = _Progress(bases, verbose=verbose)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as context:
        with tarfile.open(fileobj=context, mode="w") as tar:
            for path in _files(directory):
                tar.add(path, str(path.relative_to(directory)), recursive=False)
        context.seek(0)
        for line in engine.stream("build", query=query, body=context, kind="application/x-tar"):
            if "error" in line:
                error = plainly(str(line["error"]))
                progress.failed(error, name, directory)
                if as_json:
                    say_image(name, directory, error=error.strip())
                return FAILED
            progress.take(str(line.get("stream") or ""))
    if as_json:
        say_image(name, directory, built=True)
    else:
        progress.done(name)
    return OK


def say_image(
    name: str, directory: Path, *, built: bool = False, error: str | None = None, text: str | None = None
) -> None:
    """Say as JSON what became of an image; `text` is the Dockerfile that would be written."""
    dockerfile_path = str(directory / "Dockerfile")
    say_json({"name": name, "dockerfile": dockerfile_path, "built": built, "error": error, "text": text})


def _files(directory: Path) -> Iterator[Path]:
    size = 0
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            size += path.stat().st_size
        if size > _CONTEXT_MAX:
            raise EngineError(
                f"{directory}: more than 1 GiB would go into the build: keep data elsewhere; containers see it at /data"
            )
        yield path


def _from_registry(engine: Engine, base: str) -> bool:
    """Whether a base image can be fetched again: one of one's own cannot."""
    if not base or base.lower() == "scratch":
        return False
    try:
        found = engine.ask("GET", "images", base, "json")
    except EngineError:
        return False
    return bool(found.get("RepoDigests"))


class _Progress:
    """One line for each step."""

    def __init__(self, bases: list[str], *, verbose: bool) -> None:
        self._bases = deque(bases)
        self._verbose = verbose
        self._step = ""
        self._began = time.monotonic()
        self._tail: deque[str] = deque(maxlen=_SHOWN)

    def take(self, text: str) -> None:
        """Take a piece of the engine's output."""
        if match := _STEP.match(text):
            number, of, self._step = match[1], match[2], " ".join(match[3].split())
            self._tail.clear()
            if self._step.startswith(_OURS):
                return
            if self._step.startswith("FROM ") and self._bases:
                # The gateway puts the image's digest there, so that nobody moves the name meanwhile.
                self._step = f"FROM {self._bases.popleft() or self._step[5:]}"
            shown = self._step if len(self._step) <= _COLUMNS else f"{self._step[: _COLUMNS - 1]}~"
            click.echo(f"[{number}/{of}] {plain(shown)}", err=True)
            return
        for line in _ESCAPES.sub("", text).splitlines():
            if line.strip() and not line.startswith(_ENGINE_SAYS):
                self._tail.append(line)
                if self._verbose:
                    click.echo(f"      {plain(line)}", err=True)

    def failed(self, error: str, name: str, directory: Path) -> None:
        """Say which step failed, with its last lines."""
        if not self._verbose:
            for line in self._tail:
                click.echo(f"      {plain(line)}", err=True)
        where = f"the step `{plain(self._step)}` failed" if self._step else "the build failed"
        click.echo(f"error: {where}: {plain(error.strip())}", err=True)
        said = "\n".join([*self._tail, error])
        hint = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, said)), "")
        if hint:
            click.echo(f"hint: {hint}", err=True)
        click.echo(f"Change {directory}/Dockerfile, then: `image update {name} --cached`", err=True)

    def done(self, name: str) -> None:
        """Say that there is an image now."""
        took = time.monotonic() - self._began
        click.echo(f"the image {name} is built ({took:.0f} s): `container deploy NAME {name}`")
