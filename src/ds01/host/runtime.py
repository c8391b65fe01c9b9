"""Install the runtime on a host: each version in a directory of its own, the current one chosen by a link.

A directory counts only with the mark that is written last, so an interrupted installation is recognised and redone. The
link is replaced by a rename: at every moment it leads to a complete installation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .. import files
from ..engine.command import run
from ..problems import ReportedError
from .names import THIN

HOME: Final = Path("/opt/ds01")
COMMAND: Final = Path("/usr/local/bin/ds01")
CURRENT: Final = "current"
SHARED: Final = ("man/man1", "bash-completion/completions", "zsh/site-functions")
"""Below a version's `share` and below /usr/local/share: where manual pages and completions are looked for."""
KEPT: Final = 2
"""Earlier versions that stay, to go back to."""
_MARK: Final = ".complete"
_NAME = re.compile(r"[0-9][A-Za-z0-9.]*-[0-9a-f]{8}")


class RuntimeProblemError(ReportedError):
    """The runtime cannot be installed. The text is `path: value: what was expected: fix`."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What the wheels must fit: Python's version, the processor."""

    python: str
    machine: str


def target() -> Target:
    """Return what this host needs."""
    return Target(f"{sys.version_info[0]}.{sys.version_info[1]}", platform.machine())


def venv_package() -> str:
    """Return the package without which this Python makes no virtual environments, or "" if it does."""
    return "" if importlib.util.find_spec("ensurepip") else f"python{target().python}-venv"


class Runtime:
    """The installations on one host."""

    def __init__(self, home: Path = HOME, command: Path = COMMAND) -> None:
        """Say where they are."""
        self.home = home
        self.command = command

    def installed(self) -> list[str]:
        """Return the complete installations, the newest last."""
        found = [path for path in self._directories() if self.complete(path.name)]
        return [path.name for path in sorted(found, key=lambda path: (path / _MARK).stat().st_mtime)]

    def complete(self, name: str) -> bool:
        """Whether this version is installed, whole, and for the Python that this host has now."""
        try:
            return (self.home / name / _MARK).read_text(encoding="ascii") == _mark()
        except OSError:
            return False

    def current(self) -> str | None:
        """Return the version in use."""
        try:
            return str((self.home / CURRENT).readlink())
        except OSError:
            return None

    def in_use(self, name: str) -> bool:
        """Whether this version is complete, and what people and services get."""
        with contextlib.suppress(OSError):
            linked = all(str(path.readlink()) == destination for path, destination in self._links(name).items())
            return linked and self.complete(name) and self.current() == name
        return False

    def install(self, name: str, bundle: Path) -> None:
        """Install a version from a bundle of wheels.

        Args:
            name: Its directory.
            bundle: A zip file of wheels: ours and everything it needs.

        Raises:
            RuntimeProblemError: Python or pip failed; what was in use still is.
            OSError: No room, or no permission; what was in use still is.
        """
        if not _NAME.fullmatch(name):
            raise RuntimeProblemError(
                f"{self.home}/{name}: not a version: VERSION-DIGEST: use one that `ls` shows there"
            )
        with _readable_for_all(), tempfile.TemporaryDirectory(prefix="ds01-") as directory:
            files.ensure_directory(self.home, mode=0o755, uid=0, gid=0)
            place = self.home / name
            # No mark, so whatever is there is the rest of an interrupted installation.
            shutil.rmtree(place, ignore_errors=True)
            with zipfile.ZipFile(bundle) as wheels:
                wheels.extractall(directory)
            self._check([sys.executable, "-m", "venv", str(place)], f"apt-get install python{target().python}-venv")
            wheel = next(Path(directory).glob("ds01-*.whl"))
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-index"]
            pip += ["--disable-pip-version-check", "--no-cache-dir", "--find-links", directory, str(wheel)]
            self._check(pip, "look whether the pins in requirements/runtime.txt are complete")
            _isolate(place / "bin" / "ds01")
            manual = [str(place / "bin" / "python"), "-I", "-m", "ds01.cli.manual", str(place / "share")]
            self._check(manual, "run it by hand to see why")
            self._check([str(place / "bin" / "ds01"), "--version"], "run it there to see why")
            files.atomic_write(place / _MARK, _mark(), mode=0o644)

    def use(self, name: str) -> None:
        """Make a complete version the one that people and services get."""
        _link(self.home / CURRENT, name)
        links = self._links(name)
        with _readable_for_all():
            for path, destination in links.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                _link(path, destination)
        # A command that this version does not have has no page either.
        for path in self._shared():
            if path not in links:
                path.unlink()

    def prune(self, name: str) -> list[str]:
        """Remove what is neither this version nor one of the last ones before it, and return their names."""
        earlier = [found for found in self.installed() if found != name]
        keep = {name, *earlier[-KEPT:]}
        superfluous = [path for path in self._directories() if path.name not in keep]
        for path in superfluous:
            shutil.rmtree(path)
        return [path.name for path in superfluous]

    def remove(self) -> bool:
        """Remove every version and the command. Returns whether there was anything."""
        for link in (*self._commands(), *self._shared()):
            with contextlib.suppress(OSError):
                if link.readlink().is_relative_to(self.home):
                    link.unlink()
        for place in SHARED:
            for directory in (self._share / place, (self._share / place).parent):
                # Only an empty one goes; `man` is there on every host.
                if directory.name != "man":
                    with contextlib.suppress(OSError):
                        directory.rmdir()
        if not self.home.is_dir():
            return False
        shutil.rmtree(self.home)
        return True

    def _commands(self) -> list[Path]:
        return [self.command, *(self.command.with_name(name) for name in THIN)]

    @property
    def _share(self) -> Path:
        return self.command.parent.parent / "share"

    def _links(self, name: str) -> dict[Path, str]:
        """Return all links that people reach a version by, each with where it leads."""
        found = {command: str(self.home / CURRENT / "bin" / "ds01") for command in self._commands()}
        for place in SHARED:
            for path in sorted((self.home / name / "share" / place).glob("*")):
                found[self._share / place / path.name] = str(self.home / CURRENT / "share" / place / path.name)
        return found

    def _shared(self) -> list[Path]:
        """Return the links to our manual pages and completions that are there."""
        found = [path for place in SHARED for path in (self._share / place).glob("*") if path.is_symlink()]
        return [path for path in found if path.readlink().is_relative_to(self.home)]

    def _directories(self) -> list[Path]:
        if not self.home.is_dir():
            return []
        return [path for path in self.home.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]

    def _check(self, argv: list[str], fix: str) -> None:
        done = run(argv, timeout=600)
        if not done.ok:
            raise RuntimeProblemError(f"{' '.join(argv[:4])}: {done.complaint}: success: {fix}")


def _isolate(script: Path) -> None:
    """Let no PYTHONPATH or PYTHONHOME of a person's environment change what a command of ours imports."""
    first, _, rest = script.read_text(encoding="utf-8").partition("\n")
    files.atomic_write(script, f"{first} -I\n{rest}", mode=0o755)


def _mark() -> str:
    found = target()
    return f"{found.python} {found.machine}\n"


@contextlib.contextmanager
def _readable_for_all() -> Iterator[None]:
    """Let everybody read and run what is made meanwhile, whatever umask this process was given."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _link(path: Path, destination: str) -> None:
    with contextlib.suppress(OSError):
        if str(path.readlink()) == destination:
            return
    fresh = path.with_name(f".{path.name}{files.TEMP_SUFFIX}")
    files.remove_file(fresh)
    fresh.symlink_to(destination)
    fresh.replace(path)
