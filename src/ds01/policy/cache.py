"""The limits of a policy, compiled, so that a command need not load the validator.

Reading and checking a policy takes a few hundred milliseconds, most of them to import the validator. The tables that
come out are kept in a file together with what every file they were made from looked like; while these are unchanged the
tables are used as they are. Only valid policies are kept. The cache is never needed: missing, damaged or stale means
that the policy is read again.

What is imported here, every command waits for: names of files are texts, and nothing takes digests.
"""

from __future__ import annotations

import json
import os
import stat
import time
from contextlib import suppress
from typing import Any
from zlib import crc32

import ds01
from ds01.policy import DEFAULT_PATH
from ds01.policy.reading import open_regular

# Root fills it, everybody may read it.
SYSTEM_DIRECTORY = "/var/cache/ds01"
# Files carry the time of the last tick, at most this many seconds before the true one.
_CLOCK_TICK = 0.01
# Number, size, time of the last change of the content and of anything at all: nobody changes a file and keeps them all.
_State = list[int] | None
_Sources = dict[str, _State]


def load_tables(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the tables of a policy file, from the cache when nothing changed. Raises PolicyError."""
    path = os.path.abspath(path)
    files = _cache_files(path)
    for file in files:
        if (tables := _read(file, path)) is not None:
            return tables
    return _compile(path, files)


def _compile(path: str, files: list[str]) -> dict[str, Any]:
    from ds01.policy.load import load_policy  # noqa: PLC0415 - the import the cache exists to avoid

    started = time.time()
    loaded = load_policy(path)
    sources: _Sources = {file: _state(file) for file in (path, *map(os.path.abspath, loaded.sources))}
    tables: dict[str, Any] = loaded.policy.tables
    text = json.dumps({"version": _program(), "sources": sources, "globs": loaded.globs, "tables": tables})
    # Changed while it was read: whatever was read is answered, but not kept.
    if not any(_touched(file, started) for file in sources):
        for file in files:
            with suppress(OSError):
                _write(file, text)
                break
    return tables


def _touched(file: str, since: float) -> bool:
    """Tell whether a file was changed, replaced or removed after a moment, in seconds since 1970."""
    try:
        return os.stat(file).st_ctime >= since - _CLOCK_TICK
    except OSError:
        return file != "/" and _touched(os.path.dirname(file), since)


def _cache_files(path: str) -> list[str]:
    """Return where the tables of a policy may be kept, the best place first."""
    # Two policies with one name would only take turns: the file says whose tables it holds.
    name = f"policy-{crc32(os.fsencode(path)):08x}.json"
    own = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", ""), ".cache")
    places = [f"{own}/ds01/{name}"] if os.path.isabs(own) and _is_ours(own) else []
    return [f"{SYSTEM_DIRECTORY}/{name}", *places] if path == DEFAULT_PATH else places


def _is_ours(directory: str) -> bool:
    """Tell whether a directory, or the nearest that exists above it, is ours: behind sudo, HOME may be another's."""
    while directory:
        with suppress(OSError):
            return os.stat(directory).st_uid == os.geteuid()
        directory = os.path.dirname(directory)
    return False


def _program() -> str:
    """Name the code that compiles: another version, directory or later source may do it differently."""
    package = os.path.dirname(os.path.realpath(__file__))
    newest = 0
    for directory in (package, f"{package}/models"):
        with os.scandir(directory) as entries:
            newest = max(newest, *(entry.stat().st_mtime_ns for entry in entries if entry.name.endswith(".py")))
    return f"{ds01.__version__} {package} {newest}"


def _state(file: str | os.PathLike[str]) -> _State:
    """Return what a file looks like, None for one that is not there."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _read(file: str, policy: str) -> dict[str, Any] | None:
    """Return the tables of a cache file if it is ours or root's, for this policy, and all sources are as they were."""
    try:
        with open_regular(file) as opened:
            status = os.fstat(opened.fileno())
            if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            content = json.load(opened)
        if content["version"] != _program():
            return None
        sources: _Sources = content["sources"]
        unchanged = policy in sources and all(_state(source) == state for source, state in sources.items())
        unchanged = unchanged and _unchanged_patterns(content["globs"])
        tables: dict[str, Any] = content["tables"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return tables if unchanged else None


def _unchanged_patterns(globs: dict[str, list[str]]) -> bool:
    if not globs:
        return True
    from ds01.policy.matching import matching_files  # noqa: PLC0415 - most policies name no patterns

    return all(matching_files(pattern) == names for pattern, names in globs.items())


def _write(file: str, text: str) -> None:
    """Write a cache file in one step. Raises OSError."""
    from ds01.files import atomic_write, ensure_directory  # noqa: PLC0415 - most commands only read

    directory = os.path.dirname(file)
    shared = directory == SYSTEM_DIRECTORY
    ensure_directory(directory, mode=0o755 if shared else 0o700)
    atomic_write(file, text, mode=0o644 if shared else 0o600)
