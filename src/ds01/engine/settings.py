"""What daemon.json must say: our settings win, everything else that is there stays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..problems import Problem
from .errors import EngineError

DAEMON_JSON: Final = "/etc/docker/daemon.json"
UNMANAGED_SLICE: Final = "ds01-unmanaged.slice"

# CDI devices can be switched on from engine 25; older ones ignore the key, which would look like support.
CDI_SINCE: Final = (25,)
# `dockerd --validate` came with 23.
VALIDATE_SINCE: Final = (23,)

# What dockerd takes over on SIGHUP (its reference, "Configuration reload behavior"). `features` is read again too, but
# the CDI part of it only at start.
RELOADABLE: Final = frozenset(
    {
        "debug", "default-runtime", "insecure-registries", "labels", "live-restore", "max-concurrent-downloads",
        "max-concurrent-uploads", "max-download-attempts", "registry-mirrors", "runtimes", "shutdown-timeout",
    }
)  # fmt: skip

# The socket unit already listens here, so a `hosts` entry for the same place says nothing more.
_OWN_SOCKETS: Final = frozenset({"unix:///var/run/docker.sock", "unix:///run/docker.sock", "fd://"})

# Keys whose command line flag is called differently.
_FLAGS: Final = {"exec-opts": "exec-opt", "log-opts": "log-opt", "features": "feature"}
_CGROUP_DRIVER: Final = "native.cgroupdriver="


def version_tuple(version: str) -> tuple[int, ...]:
    """Return "26.1.5+dfsg1" as (26, 1, 5); an unknown version is ()."""
    numbers = []
    for part in version.split("+", 1)[0].split("-", 1)[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def wanted(*, version: str, log_max_size: str, log_max_files: int) -> dict[str, Any]:
    """Return the settings that must hold, for an engine of this version.

    Args:
        version: The engine's, as it says it; "" if it is not installed yet (then a current one is assumed).
        log_max_size: Size at which a container's log is rotated, as the engine writes sizes ("10m").
        log_max_files: How many rotated logs are kept.
    """
    ours: dict[str, Any] = {
        # systemd must own the cgroups, or the limits of the slices do not reach the containers.
        "exec-opts": [f"{_CGROUP_DRIVER}systemd"],
        "cgroup-parent": UNMANAGED_SLICE,
        "live-restore": True,
        "log-driver": "json-file",
        "log-opts": {"max-size": log_max_size, "max-file": str(log_max_files)},
        # A GPU reaches a container only by a CDI device, never because a runtime adds it to everything.
        "default-runtime": "runc",
    }
    if not version or version_tuple(version) >= CDI_SINCE:
        ours["features"] = {"cdi": True}
    return ours


def parse(text: str | None, path: str = DAEMON_JSON) -> dict[str, Any]:
    """Return the settings in daemon.json; a missing or blank file has none.

    Raises:
        EngineError: It is not JSON, not an object, or names a key twice.
    """
    if text is None or not text.strip():
        return {}
    try:
        found = json.loads(text, object_pairs_hook=_no_duplicates)
    except _DuplicateKeyError as error:
        raise EngineError(
            [Problem(path, str(error), "each setting once", "remove the wrong one of the two, then run again")]
        ) from error
    except ValueError as error:
        raise EngineError(
            [Problem(path, f"not JSON ({error})", "one JSON object", "correct it, or move it away, then run again")]
        ) from error
    if not isinstance(found, dict):
        raise EngineError([Problem(path, type(found).__name__, "one JSON object", "put the settings in {}")])
    return found


class _DuplicateKeyError(ValueError):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found


def merge(there: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is there with our settings put over it.

    Maps are merged key by key, so a site's own features stay; of the exec options only the cgroup driver is ours; the
    options of another log driver mean nothing to ours and go with it; a `hosts` that repeats the socket unit goes too.
    """
    merged = {**there}
    for key, value in ours.items():
        old = there.get(key)
        if key == "exec-opts":
            kept = [item for item in old or [] if not str(item).startswith(_CGROUP_DRIVER)]
            merged[key] = [*kept, *value]
        elif isinstance(value, dict) and isinstance(old, dict):
            same_driver = key != "log-opts" or there.get("log-driver", "json-file") == ours.get("log-driver")
            merged[key] = {**(old if same_driver else {}), **value}
        else:
            merged[key] = value
    if set(merged.get("hosts") or ()) <= _OWN_SOCKETS:
        merged.pop("hosts", None)
    return merged


def take_back(now: Mapping[str, Any], before: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without ours: each of our keys as it was before, everything else as it is now."""
    restored = {key: value for key, value in now.items() if key not in ours}
    restored |= {key: before[key] for key in (*ours, "hosts") if key in before}
    return restored


def render(settings: Mapping[str, Any]) -> str:
    """Return the text of daemon.json."""
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that differ."""
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def conflicts(settings: Mapping[str, Any], command_line: Sequence[str], path: str = DAEMON_JSON) -> list[Problem]:
    """Return why dockerd would not start, or would listen where anybody is root, with these settings.

    Args:
        settings: daemon.json as it will be.
        command_line: dockerd's arguments in its unit.
        path: Of daemon.json, for the messages.
    """
    found = []
    if settings.get("hosts"):
        value = " ".join(map(str, settings["hosts"]))
        fix = "remove `hosts`: docker.socket is where the engine listens"
        found.append(Problem(f"{path} hosts", value, "no `hosts`", fix))
    given = _flags(command_line)
    for key in settings:
        flag = _FLAGS.get(key, key)
        if flag in given:
            fix = f"take --{flag} out of docker.service (systemctl edit docker.service, or /etc/default/docker)"
            found.append(Problem(f"docker.service --{flag}", given[flag][0], f"only `{key}` in {path}", fix))
    listening = [host for flag in ("host", "H") for host in given.get(flag, [])]
    if command_line and listening != ["fd://"]:
        fix = "use the command of the package: remove the drop-in that changes ExecStart (systemctl cat docker.service)"
        found.append(Problem("docker.service -H", " ".join(listening) or "none", "-H fd://", fix))
    return found


def _flags(command_line: Sequence[str]) -> dict[str, list[str]]:
    """Return each flag of the command line with its values."""
    found: dict[str, list[str]] = {}
    arguments = list(command_line[1:])
    while arguments:
        argument = arguments.pop(0)
        if not argument.startswith("-"):
            continue
        name, separator, value = argument.lstrip("-").partition("=")
        if not separator:
            value = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "true"
        found.setdefault(name, []).append(value)
    return found
