"""The outer container engine: use the one that answers, or install and start one where that is allowed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from lab import packages
from lab.process import CACHE, LabError, alone, run, say

_STATE = CACHE / "engine.json"
_LOG = CACHE / "dockerd.log"
_START_SECONDS = 180.0


def ensure() -> None:
    """Return when an engine answers.

    Raises:
        LabError: None answers and none can be started by this user on this machine.
    """
    with alone(CACHE / "engine.lock"):
        _ensure()


def _ensure() -> None:
    if answers():
        return
    if os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT"):
        raise LabError(f"DOCKER_HOST or DOCKER_CONTEXT names an engine that does not answer: {_reason()}")
    if os.geteuid() != 0:
        raise LabError(
            f"no container engine answers ({_reason()}): start one, join its group "
            "(then log in again), or run the same command as root and the lab installs one"
        )
    if not shutil.which("dockerd"):
        packages.install("docker.io")
        if answers():
            _remember({"systemd": True} if _systemd() else {"service": True})
            return
    _start()


def release() -> None:
    """Stop the engine if the lab started it and it runs nothing."""
    try:
        state = json.loads(_STATE.read_text())
    except FileNotFoundError:
        return
    if run(["docker", "ps", "-q"], check=False).stdout.strip():
        say("the engine that the lab started stays: it runs other containers")
        return
    say("stopping the engine that the lab started")
    if "pid" in state:
        try:
            os.kill(int(state["pid"]), signal.SIGTERM)
        except ProcessLookupError:
            say("it had ended already")
    elif "systemd" in state:
        run(["systemctl", "stop", "docker.socket", "docker.service"])
    else:
        run(["service", "docker", "stop"], check=False)
    _STATE.unlink()


def answers() -> bool:
    """Whether an engine answers this user."""
    return bool(shutil.which("docker")) and _version_known()


def _version_known() -> bool:
    return run(["docker", "version", "--format", "{{.Server.Version}}"], check=False, timeout=120).returncode == 0


def _reason() -> str:
    if not shutil.which("docker"):
        return "no docker command"
    text = run(["docker", "version"], check=False, timeout=120).stderr.strip()
    return text.splitlines()[-1] if text else "no answer"


def _systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _remember(state: dict[str, object]) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    _STATE.write_text(json.dumps(state))


def _start() -> None:
    if _systemd():
        say("starting the engine: systemctl start docker")
        run(["systemctl", "start", "docker.service"])
        _remember({"systemd": True})
    else:
        CACHE.mkdir(parents=True, exist_ok=True)
        say(f"starting dockerd in the background, log: {_LOG}")
        with _LOG.open("wb") as log:
            daemon = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _remember({"pid": daemon.pid})
    end = time.monotonic() + _START_SECONDS
    while not answers():
        if time.monotonic() > end:
            tail = "\n".join(_LOG.read_text(errors="replace").splitlines()[-8:]) if _LOG.exists() else ""
            raise LabError(f"the engine does not answer after {_START_SECONDS:.0f} s\n{tail}".rstrip())
        time.sleep(0.5)
