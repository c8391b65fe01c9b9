"""Find what the earlier DS01 left on a host.

It ran as scripts straight from one directory, and copied or linked files from there into the system's. A file is taken
for its own only if it is linked to that directory, speaks of it, or has one of its names and not our header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

INSTALLATION: Final = "/opt/ds01-infra"
STATE: Final = "/var/lib/ds01"
LOGS: Final = "/var/log/ds01"
CONFIGURATION: Final = f"{INSTALLATION}/config/runtime"

# Every file of ours says so in its first lines.
OUR_HEADER: Final = "Written by DS01"
_READ: Final = 1 << 16

_UNITS: Final = "/etc/systemd/system"
_NAMED: Final[dict[str, tuple[str, ...]]] = {
    "cron": ("/etc/cron.d/ds01-*",),
    "profile": ("/etc/profile.d/ds01*.sh",),
    "sudoers": ("/etc/sudoers.d/ds01-*",),
    "unit": (
        f"{_UNITS}/ds01-container-owner-tracker.service",
        f"{_UNITS}/ds01-container-sync.service",
        f"{_UNITS}/ds01-dcgm-exporter.service",
        f"{_UNITS}/ds01-docker-filter.service",
        f"{_UNITS}/ds01-exporter.service",
        f"{_UNITS}/ds01-workload-detector.service",
        f"{_UNITS}/ds01-workload-detector.timer",
        f"{_UNITS}/opa-docker-authz.service",
    ),
    "engine": (f"{_UNITS}/docker.service.d/ds01-*.conf",),
    "slice": (f"{_UNITS}/ds01.slice", f"{_UNITS}/ds01-*.slice", f"{_UNITS}/ds01-*.slice.d/10-resource-limits.conf"),
    "rotation": ("/etc/logrotate.d/ds01",),
}
# Directories in which a file counts if it speaks of the installation, whatever its name.
_SPEAKING: Final[dict[str, tuple[str, ...]]] = {
    "cron": ("/etc/cron.d/*", "/etc/cron.hourly/*", "/etc/cron.daily/*", "/etc/cron.weekly/*"),
    "profile": ("/etc/profile.d/*",),
    "sudoers": ("/etc/sudoers.d/*",),
    "unit": (f"{_UNITS}/*.service", f"{_UNITS}/*.timer"),
    "rotation": ("/etc/logrotate.d/*",),
}
_COMMANDS: Final = "/usr/local/bin"
_CRONTABS: Final = "/var/spool/cron/crontabs"

ORDER: Final = (
    "cron",
    "crontab",
    "unit",
    "command",
    "sudoers",
    "profile",
    "engine",
    "slice",
    "rotation",
    "state",
    "log",
)
"""What is taken away first: the jobs that remove containers."""


class Trace(NamedTuple):
    """One thing the earlier DS01 left: its kind (one of `ORDER`) and its path."""

    kind: str
    path: Path


class Traces:
    """Looks below a root directory; "/" is the host itself."""

    def __init__(self, root: str | Path = "/") -> None:
        """Remember where to look."""
        self.root = Path(root)

    def present(self) -> bool:
        """Whether the earlier DS01 is, or was until just now, what runs this host.

        Only root can make it seem so: anybody may write its name into a crontab of their own.
        """
        return self.at(INSTALLATION).is_dir() or any(
            trace.kind == "cron" or trace.path.name == "root" for trace in self._jobs()
        )

    def find(self) -> list[Trace]:
        """Return everything that has to go, first things first. State and logs are not among it: see `leftovers`."""
        found = {*self._jobs(), *self._commands(), *self._files()}
        return sorted(found, key=lambda trace: (ORDER.index(trace.kind), trace.path))

    def leftovers(self) -> list[Trace]:
        """Return the entries of its state and log directories."""
        entries = [Trace("state", path) for path in self._entries(STATE) if path.name not in {"engine", "predecessor"}]
        return entries + [Trace("log", path) for path in self._entries(LOGS)]

    def configuration(self) -> list[Path]:
        """Return the files that hold its policy: limits, members, overrides, exemptions."""
        base = self.at(CONFIGURATION)
        names = ("resource-limits.yaml", "user-overrides.yaml", "group-overrides.txt", "lifecycle-exemptions.yaml")
        found = [base / name for name in names] + sorted(base.glob("groups/*.members"))
        return [path for path in found if path.is_file()]

    def members(self) -> dict[str, str]:
        """Return the group of each person in its member files; the lines of its group overrides win."""
        found: dict[str, str] = {}
        for path in sorted(self.at(CONFIGURATION).glob("groups/*.members")):
            for line in _lines(path):
                found.setdefault(line, path.stem)
        for line in _lines(self.at(CONFIGURATION) / "group-overrides.txt"):
            login, separator, group = line.rpartition(":")
            if separator and login.strip() and group.strip():
                found[login.strip()] = group.strip()
        return found

    def at(self, path: str) -> Path:
        """Return where an absolute path of the host is."""
        return self.root / path.lstrip("/")

    def _entries(self, directory: str) -> list[Path]:
        try:
            return sorted(self.at(directory).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _glob(self, pattern: str) -> Iterator[Path]:
        yield from sorted(self.root.glob(pattern.lstrip("/")))

    def _jobs(self) -> Iterator[Trace]:
        for kind, path in self._matching(("cron",)):
            yield Trace(kind, path)
        for path in self._entries(_CRONTABS):
            if path.is_file() and any(map(speaks, active_lines(_text(path)))):
                yield Trace("crontab", path)

    def _files(self) -> Iterator[Trace]:
        for kind, path in self._matching(("sudoers", "profile", "unit", "engine", "slice", "rotation")):
            yield Trace(kind, path)

    def _matching(self, kinds: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
        for kind in kinds:
            for pattern in _NAMED.get(kind, ()):
                yield from ((kind, path) for path in self._glob(pattern) if path.is_file() and not ours(path))
            for pattern in _SPEAKING.get(kind, ()):
                yield from (
                    (kind, path)
                    for path in self._glob(pattern)
                    if path.is_file() and not ours(path) and speaks(_text(path))
                )

    def _commands(self) -> Iterator[Trace]:
        for path in self._entries(_COMMANDS):
            if path.is_symlink():
                if speaks(str(path.readlink())):
                    yield Trace("command", path)
            elif path.is_file() and speaks(_text(path)):
                yield Trace("command", path)


def speaks(text: str) -> bool:
    """Whether a text speaks of the earlier installation."""
    return re.search(re.escape(INSTALLATION) + r"(?![\w.-])", text) is not None


def active_lines(text: str) -> list[str]:
    """Return the lines that are not comments."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def ours(path: Path) -> bool:
    """Whether this file is one that the present DS01 wrote."""
    return OUR_HEADER in _text(path)[:400]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_READ).decode("utf-8", "replace")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    """Return the entries of a list file: comments, also behind an entry, and blank lines left out."""
    return [entry for line in _text(path).splitlines() if (entry := line.partition("#")[0].strip())]
