"""Put the gateway where every client looks for the engine, and the engine behind it; or the other way round.

The engine moves to a socket in a directory that only root enters, by a drop-in for its socket unit: `hosts` in
daemon.json would contradict the `-H fd://` of its service. Containers run on, because live-restore is in force before.
What fails in the middle is taken back: then the engine is where it was, for root alone, and nobody gets past anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any, Final

from .. import files
from ..engine import restart, units
from ..engine.api import MOVED, SOCKET, Engine, EngineUnavailableError
from ..engine.apply import read_file, remove_drop_in
from ..engine.command import run
from ..engine.errors import EngineError
from ..problems import Problem
from .services import runs_installed

SOCKET_UNIT: Final = "ds01-gateway.socket"
SERVICE: Final = "ds01-gateway.service"
DROP_IN: Final = "/etc/systemd/system/docker.socket.d/60-ds01-gateway.conf"
DROP_IN_TEXT: Final = f"""\
# Written by DS01: the gateway has the engine's place.
[Socket]
ListenStream=
ListenStream={MOVED}
DirectoryMode=0700
"""
_ANSWER_S: Final = 60.0
"""Seconds for the gateway to answer after its start, and for another version to take over."""
_ATTEMPTS: Final = 5
"""Starts of a gateway that ends each time, before it is given up."""
_POLL_S: Final = 0.2


@dataclasses.dataclass(frozen=True)
class Plan:
    """What has to be done.

    Attributes:
        move: Why the engine has to be restarted; empty if it need not.
        enable: Units that do not start at boot.
        start: Units that do not run.
        outdated: Whether the gateway that runs is of another version than the one in use.
    """

    move: list[str]
    enable: list[str]
    start: list[str]
    outdated: bool

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.move or self.enable or self.start or self.outdated)


class GatewaySetup:
    """One host's gateway, whose units are in place."""

    def __init__(self, drop_in: Path = Path(DROP_IN)) -> None:
        """Say where the drop-in is."""
        self.drop_in = drop_in
        self.behind = Engine(MOVED)
        self.front = Engine(SOCKET)

    def plan(self) -> Plan:
        """Compare what is there with what is wanted. Changes nothing."""
        both = (SOCKET_UNIT, SERVICE)
        start = [unit for unit in both if not units.is_active(unit)]
        return Plan(
            move=self.moves(),
            enable=[unit for unit in both if not run(["systemctl", "is-enabled", "--quiet", unit]).ok],
            start=start,
            outdated=SERVICE not in start and not runs_installed(SERVICE),
        )

    def moves(self) -> list[str]:
        """Return why the engine has to be restarted to be behind the gateway; nothing if it is there."""
        if read_file(self.drop_in) != DROP_IN_TEXT:
            return [f"it moves to {MOVED}, behind the gateway"]
        # A stopped engine would be started by the question.
        if not units.is_active():
            return ["it does not run"]
        return [] if self.behind.answers() else [f"it does not listen at {MOVED} yet"]

    def apply(self, plan: Plan) -> list[str]:
        """Carry out a plan.

        Returns:
            The names of the containers that ran through a restart of the engine.

        Raises:
            EngineError: Engine or gateway did not come up. If the engine had to be moved it is where it was before.
        """
        survived = self._move() if plan.move else []
        restart.systemctl("daemon-reload")
        if plan.outdated and not plan.move:
            self._hand_over()
        try:
            self._serve()
        except EngineError as error:
            if plan.move:
                self._take_back(error)
            raise
        if plan.enable:
            restart.systemctl("enable", "--quiet", *plan.enable)
        return survived

    def there(self) -> bool:
        """Whether anything of the gateway is there to be taken away."""
        return bool(
            self.drop_in.exists() or MOVED.parent.is_dir() or run(["systemctl", "cat", SOCKET_UNIT, SERVICE]).ok
        )

    def remove(self) -> list[str]:
        """Give the engine its place back, for root alone.

        Returns:
            The names of the containers that ran through it.

        Raises:
            EngineError: The engine did not come back, or a container did not survive.
        """
        if run(["systemctl", "cat", SOCKET_UNIT, SERVICE]).ok:
            restart.systemctl("disable", "--quiet", "--now", SOCKET_UNIT, SERVICE)
        left = self.drop_in.exists() or MOVED.parent.is_dir()
        # A run that was killed may have left the engine stopped.
        return [] if not left and units.is_active() and self.front.answers() else self._move_back()

    def _move(self) -> list[str]:
        """Restart the engine behind the gateway."""
        info, before = self._running()
        if before and not info.get("LiveRestoreEnabled"):
            raise _problem("live-restore", "not in force", "in force", "run site.yml with --tags engine first")
        files.ensure_directory(self.drop_in.parent, mode=0o755)
        files.atomic_write(self.drop_in, DROP_IN_TEXT, mode=0o644)
        try:
            # It would take the connections of those who look for the engine, which is not there.
            _stop_gateway()
            restart.cycle(self.behind, lambda: None)
        except EngineError as error:
            self._take_back(error)
            raise
        restart.require_survival(before, self.behind)
        return sorted(name for name, _pid in before.values())

    def _take_back(self, cause: EngineError) -> None:
        """Return to where the engine ran, so that a gateway that does not start is not an outage for root."""
        try:
            self._move_back()
        except EngineError as error:
            raise EngineError(dict.fromkeys((*cause.problems, *error.problems))) from cause

    def _move_back(self) -> list[str]:
        """Restart the engine where it was."""
        _, before = self._running()
        remove_drop_in(self.drop_in)
        _stop_gateway()
        if not units.is_installed():
            _forget_place()
            return []
        restart.cycle(self.front, _forget_place)
        restart.require_survival(before, self.front)
        return sorted(name for name, _pid in before.values())

    def _running(self) -> tuple[dict[str, Any], dict[str, tuple[str, int]]]:
        """Return what the engine says of itself, and its running containers, wherever it listens."""
        if units.is_active():
            for engine in (self.behind, self.front):
                with contextlib.suppress(EngineUnavailableError):
                    return engine.info(), restart.running(engine)
            raise _problem(units.SERVICE, "no answer", "an answer of the engine that runs", _ENGINE_FIX)
        return {}, {}

    def _serve(self) -> None:
        """Start the gateway, if it does not run, and see that it answers as the engine does."""
        # Earlier failures must not use up the start limit of this one.
        run(["systemctl", "reset-failed", SOCKET_UNIT, SERVICE])
        restart.systemctl("start", SOCKET_UNIT)
        run(["systemctl", "start", "--no-block", SERVICE])
        deadline = time.monotonic() + _ANSWER_S
        while not self.front.answers():
            if time.monotonic() > deadline or _restarts() >= _ATTEMPTS:
                raise _problem(SERVICE, _last_words(), f"an answer within {_ANSWER_S:g} s", _FIX)
            time.sleep(_POLL_S)

    def _hand_over(self) -> None:
        """Let the version in use take over: who is connected stays connected to the one before, until they go."""
        restart.systemctl("reload", SERVICE)
        deadline = time.monotonic() + _ANSWER_S
        while not runs_installed(SERVICE):
            if time.monotonic() > deadline:
                raise _problem(SERVICE, _last_words(), "the version in use takes over; the one before serves on", _FIX)
            time.sleep(_POLL_S)


_FIX: Final = f"journalctl -u {SERVICE} says why"
_ENGINE_FIX: Final = "journalctl -u docker.service says why; nothing was restarted and no container was touched"


def _restarts() -> int:
    """How often systemd had to start the gateway again."""
    shown = run(["systemctl", "show", "--property=NRestarts", "--value", SERVICE]).stdout.strip()
    return int(shown) if shown.isdigit() else 0


def _stop_gateway() -> None:
    for unit in (SOCKET_UNIT, SERVICE):
        if units.is_active(unit):
            restart.systemctl("stop", unit)


def _forget_place() -> None:
    files.remove_file(MOVED)
    with contextlib.suppress(FileNotFoundError):
        MOVED.parent.rmdir()


def _last_words() -> str:
    shown = run(["journalctl", f"--unit={SERVICE}", "--lines=1", "--output=cat", "--no-pager"]).stdout.strip()
    return shown or "no answer"


def _problem(path: str, value: str, expected: str, fix: str) -> EngineError:
    return EngineError([Problem(path, value, expected, fix)])
