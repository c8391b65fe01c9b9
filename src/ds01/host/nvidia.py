"""NVIDIA's container toolkit on this host: its version, and the doors of its configuration that DS01 closes.

With the toolkit's defaults anybody who may start a container can take every GPU by an environment variable, past all
accounting. DS01 gives devices by CDI alone.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..engine.command import run
from ..files import atomic_write, ensure_directory, remove_file
from ..problems import ApplyError

CONFIG: Final = Path("/etc/nvidia-container-runtime/config.toml")
BEFORE: Final = Path("/var/lib/ds01/nvidia/config.toml.before")
CLOSED: Final = (
    "accept-nvidia-visible-devices-envvar-when-unprivileged",
    "accept-nvidia-visible-devices-as-volume-mounts",
)


class Escape(NamedTuple):
    """A published way out of a container, and the first version without it."""

    name: str
    fixed: tuple[int, ...]


# NVIDIA security bulletins of September 2024, February 2025 and July 2025.
ESCAPES: Final = (
    Escape("CVE-2024-0132", (1, 16, 2)),
    Escape("CVE-2025-23359", (1, 17, 4)),
    Escape("CVE-2025-23266", (1, 17, 8)),
    Escape("CVE-2025-23267", (1, 17, 8)),
)
SAFE: Final = max(escape.fixed for escape in ESCAPES)


def toolkit_version() -> str:
    """Return the version of the container toolkit; "" if there is none, or it does not say."""
    found = re.search(r"version v?([0-9]+(?:\.[0-9]+)+\S*)", run(["nvidia-ctk", "--version"]).stdout)
    return found[1] if found else ""


def escapes_of(version: str) -> list[str]:
    """Return the names of the escapes that a version of the toolkit has. A release candidate counts as older."""
    numbers = tuple(int(part) for part in re.findall(r"[0-9]+", version.partition("-")[0].partition("~")[0]))
    early = 0 if re.search(r"[-~]rc", version) else 1
    return [escape.name for escape in ESCAPES if (*numbers, early) < (*escape.fixed, 1)]


def closed(text: str) -> str:
    """Return a configuration with both doors closed and everything else as it was.

    Raises:
        ApplyError: It is not TOML, or would not be afterwards.
    """
    before = _parsed(text)
    if all(before.get(key) is False for key in CLOSED):
        return text
    lines = text.splitlines(keepends=True)
    for key in CLOSED:
        lines = _set(lines, key)
    after = "".join(lines)
    if _parsed(after) != before | dict.fromkeys(CLOSED, False):
        fix = f"set {' and '.join(CLOSED)} to false by hand"
        raise ApplyError(f"{CONFIG}: a form of TOML that DS01 cannot edit: plain keys above the sections: {fix}")
    return after


def current() -> str:
    """Return the configuration as it is, whatever it is; "" if there is none. Raises OSError."""
    try:
        return CONFIG.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def difference() -> tuple[str, str]:
    """Return the configuration as it is and as it shall be. Raises ApplyError, OSError."""
    text = _read(CONFIG)
    return text or "", closed(text or "")


def close() -> None:
    """Close the doors, and keep what was there for `reopen`. Raises ApplyError, OSError."""
    text = _read(CONFIG)
    after = closed(text or "")
    if after == text:
        return
    if not BEFORE.exists():
        ensure_directory(BEFORE.parent, mode=0o700)
        atomic_write(BEFORE, text or "", mode=0o600)
    ensure_directory(CONFIG.parent, mode=0o755)
    atomic_write(CONFIG, after, mode=0o644)


def kept() -> str | None:
    """Return the configuration from before, if it was changed and nobody changed it since; "" if there was none."""
    before = _read(BEFORE)
    return before if before is not None and current() == closed(before) else None


def reopen() -> bool:
    """Put back what was there, unless somebody changed it since; True if anything was done. Raises OSError."""
    before = kept()
    if before:
        atomic_write(CONFIG, before, mode=0o644)
    elif before is not None:
        remove_file(CONFIG)
    if not BEFORE.exists():
        return False
    remove_file(BEFORE)
    BEFORE.parent.rmdir()
    return True


def _set(lines: list[str], key: str) -> list[str]:
    """Return the lines with a key set to false: in its place, in that of its commented default, or above the rest."""
    new = f"{key} = false\n"
    end = next((number for number, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    for form in (rf"\s*{re.escape(key)}\s*=", rf"\s*#\s*{re.escape(key)}\s*="):
        for number in range(end):
            if re.match(form, lines[number]):
                return [*lines[:number], new, *lines[number + 1 :]]
    return [new, *lines]


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        fix = "correct it, or move it away: DS01 then writes one with what it needs"
        raise ApplyError(f"{CONFIG}: {error}: a TOML file: {fix}") from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
