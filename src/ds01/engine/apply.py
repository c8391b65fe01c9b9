"""Bring the engine to its settings without losing a container.

The order keeps containers alive: live-restore first, by reload; only when the running engine confirms it are the other
settings written and the engine restarted, once, and only if something really changed.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..problems import Problem
from . import adopt, group, package, restart, settings, units
from .api import Engine, EngineUnavailableError
from .command import run
from .errors import EngineError
from .record import Record


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the engine should be like.

    Attributes:
        log_max_size: Size at which a container's log is rotated, in the engine's notation.
        log_max_files: How many rotated logs are kept.
        extra: Further settings for daemon.json; ours win.
        ignored_drop_ins: Drop-ins of docker.service that are about to go.
    """

    log_max_size: str = "10m"
    log_max_files: int = 3
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ignored_drop_ins: Collection[str] = ()

    @classmethod
    def of(
        cls, policy: Mapping[str, Any], more: Mapping[str, Any] | None = None, ignored_drop_ins: Collection[str] = ()
    ) -> Wish:
        """Return what the section `engine` of the policy asks for.

        Args:
            policy: That section, with all its keys.
            more: Settings for daemon.json that the policy knows nothing of.
            ignored_drop_ins: Drop-ins of docker.service that are about to go.
        """
        registries = {
            "registry-mirrors": policy["registry_mirrors"],
            "insecure-registries": policy["insecure_registries"],
        }
        given = {key: list(value) for key, value in registries.items() if value}
        return cls(
            str(policy["log_max_size"]), int(policy["log_max_file"]), {**given, **(more or {})}, ignored_drop_ins
        )


@dataclasses.dataclass
class Plan:
    """What has to be done.

    Attributes:
        before: daemon.json as it is, None if it is missing.
        after: daemon.json as it will be.
        keys: Settings that differ.
        drop_in: Whether the socket's drop-in is missing or different.
        open_socket: Whether others than root can open the socket now.
        members: People to take out of the group docker.
        restart: Why the engine must be restarted; empty if it need not.
        enable: Units that do not start at boot.
    """

    before: str | None
    after: str
    keys: list[str]
    drop_in: bool
    open_socket: bool
    members: list[str]
    restart: list[str]
    enable: list[str]

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return any((self.keys, self.drop_in, self.open_socket, self.members, self.restart, self.enable))


@dataclasses.dataclass
class Outcome:
    """What was done: containers that ran through a restart, containers that were adopted."""

    survived: list[str] = dataclasses.field(default_factory=list)
    adopted: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class EngineSetup:
    """One host's engine."""

    def __init__(
        self,
        wish: Wish,
        *,
        engine: Engine | None = None,
        record: Record | None = None,
        daemon_json: Path = Path(settings.DAEMON_JSON),
        drop_in: Path = Path(units.DROP_IN),
    ) -> None:
        """Say what is wanted, and where things are.

        Raises:
            EngineError: The engine runs and does not answer.
        """
        self.wish = wish
        self.engine = engine or Engine()
        self.record = record or Record()
        self.daemon_json = daemon_json
        self.drop_in = drop_in
        self.info = self._info()

    def plan(self) -> Plan:
        """Compare what is there with what is wanted. Changes nothing.

        Raises:
            EngineError: daemon.json cannot be used, or the engine would not start with these settings.
        """
        text = read_file(self.daemon_json)
        there = settings.parse(text, str(self.daemon_json))
        after = settings.merge(settings.merge(there, self.wish.extra), self._ours())
        problems = settings.conflicts(after, units.command_line(self.wish.ignored_drop_ins), str(self.daemon_json))
        problems += _swarm(self.info)
        if problems:
            raise EngineError(problems)
        keys = settings.changed_keys(there, after)
        socket = units.socket_path()
        reasons = [f"{key} changes" for key in keys if key not in settings.RELOADABLE]
        reasons += self._not_in_force(keys)
        if self.record.pending:
            reasons.append("an interrupted run did not restart it")
        return Plan(
            before=text,
            after=settings.render(after) if keys else text or "",
            keys=keys,
            drop_in=read_file(self.drop_in) != units.DROP_IN_TEXT,
            open_socket=socket is not None and not units.socket_is_closed(socket),
            members=group.members(),
            restart=reasons,
            enable=[
                unit
                for unit in (units.SOCKET_UNIT, units.SERVICE)
                if not run(["systemctl", "is-enabled", "-q", unit]).ok
            ],
        )

    def apply(self, plan: Plan, slice_of: adopt.SliceOf | None) -> Outcome:
        """Carry out a plan.

        Args:
            plan: From `plan`.
            slice_of: Gives group and slice of a login, for the containers that are adopted; None adopts nothing.

        Raises:
            EngineError: The engine refused the settings, or did not come back; the previous settings are in place then.
            OSError: A file could not be written; it is as it was.
        """
        outcome = Outcome()
        self._validate(plan)
        self._remember(plan)
        if plan.members:
            group.set_members([])
        if plan.restart:
            self._restart(plan, slice_of, outcome)
        else:
            if plan.keys:
                self._write(plan.after)
                restart.systemctl("reload", units.SERVICE)
            if plan.drop_in:
                self._write_drop_in()
                restart.systemctl("daemon-reload")
        outcome.adopted = self._adopt(slice_of) or outcome.adopted
        if plan.enable:
            restart.systemctl("enable", *plan.enable)
        self._close_socket()
        return outcome

    def _info(self) -> dict[str, Any]:
        # Opening the socket of a stopped engine would start it, with the old settings.
        if not units.is_active():
            return {}
        try:
            return self.engine.info()
        except EngineUnavailableError as error:
            # Restarted now, without knowing whether live-restore is in force, it could take its containers along.
            fix = "journalctl -u docker.service says why; nothing was restarted and no container was touched"
            raise EngineError([Problem(units.SERVICE, str(error), "an answer of the engine that runs", fix)]) from error

    def _ours(self) -> dict[str, Any]:
        version = str(self.info.get("ServerVersion", "")) or package.version()
        return settings.wanted(
            version=version, log_max_size=self.wish.log_max_size, log_max_files=self.wish.log_max_files
        )

    def _not_in_force(self, keys: Collection[str]) -> list[str]:
        """Return where the running engine differs from settings that its file already has."""
        if not self.info:
            return ["the engine does not run"] if units.is_installed() else []
        if not units.runs_on_socket_unit():
            return ["the running engine listens on a socket of its own"]
        ours = self._ours()
        checks = (
            ("CgroupDriver", "systemd", "exec-opts"),
            ("LiveRestoreEnabled", True, "live-restore"),
            ("DefaultRuntime", ours["default-runtime"], "default-runtime"),
            ("LoggingDriver", ours["log-driver"], "log-driver"),
        )
        return [
            f"{name} in force is {self.info.get(field)}"
            for field, value, name in checks
            if self.info.get(field) != value and name not in keys
        ]

    def _restart(self, plan: Plan, slice_of: adopt.SliceOf | None, outcome: Outcome) -> None:
        before = restart.running(self.engine) if self.info else {}
        self.record.owe_restart()
        if self.info and not self.info.get("LiveRestoreEnabled"):
            self._switch_on_live_restore(plan)
        entries = outcome.adopted = self._adopt(slice_of)
        old_drop_in = read_file(self.drop_in)
        try:
            self._write(plan.after)
            self._write_drop_in()
        except OSError:
            restore_file(self.daemon_json, plan.before)
            raise
        try:
            restart.cycle(self.engine, lambda: adopt.move(entries, restart.data_root(self.info)))
        except EngineError as error:
            self._put_back(plan, old_drop_in, error)
            raise
        restart.require_survival(before, self.engine)
        self.record.restarted()
        outcome.survived = sorted(name for name, _pid in before.values())

    def _adopt(self, slice_of: adopt.SliceOf | None) -> list[dict[str, Any]]:
        """Return the containers that were there before us; they are written down, once, before anything is done."""
        if slice_of is None or self.record.adopted() is not None or not units.is_active():
            return []
        entries = adopt.survey(self.engine.containers(), slice_of)
        self.record.keep_adopted({"containers": entries})
        adopt.announce(entries)
        return entries

    def _switch_on_live_restore(self, plan: Plan) -> None:
        there = settings.parse(plan.before, str(self.daemon_json))
        self._write(settings.render({**there, "live-restore": True}))
        try:
            confirmed = restart.live_restore(self.engine, wanted=True)
        except EngineError:
            confirmed = False
        if not confirmed:
            restore_file(self.daemon_json, plan.before)
            fix = "journalctl -u docker.service says why; nothing was restarted and no container was touched"
            raise EngineError([Problem("live-restore", "not in force after a reload", "in force", fix)])

    def _put_back(self, plan: Plan, drop_in: str | None, cause: EngineError) -> None:
        """Return to the settings with which the engine ran, so that a refused change is not an outage."""
        there = settings.parse(plan.before, str(self.daemon_json))
        # Without live-restore a starting engine ends the containers that ran on.
        self._write(settings.render({**there, "live-restore": True}))
        if drop_in is None:
            remove_drop_in(self.drop_in)
        else:
            restore_file(self.drop_in, drop_in)
        try:
            restart.cycle(self.engine, lambda: None)
        except EngineError as error:
            raise EngineError(dict.fromkeys((*cause.problems, *error.problems))) from cause

    def _validate(self, plan: Plan) -> None:
        """Let the engine itself judge the settings before they are put in place."""
        if not plan.keys or settings.version_tuple(package.version()) < settings.VALIDATE_SINCE:
            return
        with tempfile.TemporaryDirectory(prefix="ds01-") as directory:
            candidate = Path(directory, "daemon.json")
            candidate.write_text(plan.after, encoding="utf-8")
            done = run(["dockerd", "--validate", "--config-file", str(candidate)])
        if not done.ok:
            fix = "correct the settings it names, in the policy's engine settings or in the file"
            raise EngineError([Problem(str(self.daemon_json), done.complaint, "what dockerd --validate accepts", fix)])

    def _remember(self, plan: Plan) -> None:
        before = self.record.before()
        if before is None:
            before = {
                "daemon_json": plan.before,
                "directory": self.daemon_json.parent.is_dir(),
                "docker_members": plan.members,
                "enabled_by_us": plan.enable,
            }
        else:
            before["docker_members"] = sorted({*before["docker_members"], *plan.members})
        if before != self.record.before():
            self.record.keep_before(before)

    def _write(self, text: str) -> None:
        files.ensure_directory(self.daemon_json.parent, mode=0o755)
        restore_file(self.daemon_json, text)

    def _write_drop_in(self) -> None:
        files.ensure_directory(self.drop_in.parent, mode=0o755)
        files.atomic_write(self.drop_in, units.DROP_IN_TEXT, mode=0o644)

    def _close_socket(self) -> None:
        """Close the socket that is open now; the drop-in does it from the next start on."""
        path = units.socket_path()
        if path is not None and not units.socket_is_closed(path):
            os.chown(path, 0, 0)
            path.chmod(units.SOCKET_MODE)


def read_file(path: Path) -> str | None:
    """Return the text of the file, or None if it is missing."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def restore_file(path: Path, text: str | None) -> None:
    """Make the file this text, or absent if None. A file that exists keeps its mode."""
    if text is None:
        files.remove_file(path)
        return
    try:
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        mode = 0o644
    files.atomic_write(path, text, mode=mode)


def remove_drop_in(path: Path) -> None:
    """Remove a drop-in, and its directory if nothing else is in it."""
    files.remove_file(path)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _swarm(info: Mapping[str, Any]) -> list[Problem]:
    state = (info.get("Swarm") or {}).get("LocalNodeState", "inactive")
    if state in {"inactive", ""}:
        return []
    fix = "leave the swarm first (docker swarm leave): containers of a swarm cannot survive a restart of the engine"
    return [Problem("swarm", state, "inactive", fix)]
