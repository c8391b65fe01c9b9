"""Restart the engine while its containers run on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..problems import Problem
from . import units
from .api import Engine, EngineUnavailableError
from .command import Completed, run
from .errors import EngineError

_START_S: Final = 90.0
_RELOAD_S: Final = 15.0
_POLL_S: Final = 0.2
_DATA_ROOT: Final = "/var/lib/docker"


def systemctl(*arguments: str) -> None:
    """Run systemctl.

    Raises:
        EngineError: It failed.
    """
    done = run(["systemctl", *arguments], timeout=180)
    if not done.ok:
        raise _failed(f"systemctl {' '.join(arguments)}", done)


def live_restore(engine: Engine, *, wanted: bool) -> bool:
    """Reload the engine's settings, and wait until it says of live-restore what is wanted.

    A reload is a signal: the engine may read the file only after systemctl has ended, so the file must stay until then.

    Returns:
        Whether it did so in time.

    Raises:
        EngineError: systemctl failed.
    """
    systemctl("reload", units.SERVICE)
    deadline = time.monotonic() + _RELOAD_S
    while time.monotonic() < deadline:
        with contextlib.suppress(EngineUnavailableError):
            if engine.info().get("LiveRestoreEnabled") is wanted:
                return True
        time.sleep(_POLL_S)
    return False


def running(engine: Engine) -> dict[str, tuple[str, int]]:
    """Return name and process id of each running container by its id."""
    return {
        container["Id"]: (str(container["Name"]).lstrip("/"), int(container["State"]["Pid"]))
        for container in engine.containers()
        if container["State"].get("Running")
    }


def data_root(info: Mapping[str, Any]) -> Path:
    """Return the engine's data directory."""
    return Path(info.get("DockerRootDir") or _DATA_ROOT)


def cycle(engine: Engine, while_down: Callable[[], object]) -> None:
    """Stop service and socket, do something, start both, and wait for an answer.

    The socket must stop too: while it listens, any client starts the engine again.

    Args:
        engine: To ask whether it is back.
        while_down: Called when neither runs.

    Raises:
        EngineError: It did not stop, or did not come back.
    """
    systemctl("daemon-reload")
    systemctl("stop", units.SERVICE, units.SOCKET_UNIT)
    while_down()
    # Earlier failures must not use up the start limit of this one.
    run(["systemctl", "reset-failed", units.SERVICE, units.SOCKET_UNIT])
    systemctl("start", units.SOCKET_UNIT)
    systemctl("start", units.SERVICE)
    deadline = time.monotonic() + _START_S
    while not engine.answers():
        if time.monotonic() > deadline:
            raise EngineError(
                [
                    Problem(
                        units.SERVICE, f"no answer within {_START_S:g} s", "an answer", "journalctl -u docker.service"
                    )
                ]
            )
        time.sleep(_POLL_S)


def require_survival(before: Mapping[str, tuple[str, int]], engine: Engine) -> None:
    """Check that what ran still runs, as the same process.

    Args:
        before: What `running` returned earlier.
        engine: The engine now.

    Raises:
        EngineError: Names every container that does not.
    """
    try:
        now = running(engine)
    except EngineUnavailableError:
        now = {}
    lost = sorted(name for identity, (name, pid) in before.items() if now.get(identity, ("", 0))[1] != pid)
    if lost:
        fix = "start them again; journalctl -u docker.service -u containerd.service says why"
        raise EngineError([Problem("containers", " ".join(lost), "running on through the restart", fix)])


def _failed(what: str, done: Completed) -> EngineError:
    # What the engine printed itself; systemd's own lines only say that it failed.
    journal = [
        "journalctl",
        "--unit=docker.service",
        "--identifier=dockerd",
        "--lines=10",
        "--output=cat",
        "--no-pager",
    ]
    reasons = [line for line in run(journal).stdout.splitlines() if "level=info" not in line]
    value = reasons[-1] if reasons else done.complaint
    return EngineError([Problem(what, value, "success", "journalctl -u docker.service says more")])
