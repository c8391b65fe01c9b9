"""Take the earlier DS01 out of service, and put it back.

Nothing is deleted and no container is stopped: every file goes to a backup, and a manifest says where it came from.
It is written before each step, so an interrupted run is completed by the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from .. import files
from ..engine import restart, settings, units
from ..engine.apply import read_file, restore_file
from ..engine.command import run
from ..engine.errors import EngineError
from .traces import INSTALLATION, LOGS, STATE, Trace, Traces, active_lines, speaks

HOME: Final = f"{STATE}/predecessor"
RUNTIME: Final = "/opt/ds01"
OLD_LOGS: Final = f"{LOGS}/predecessor"
_MANIFEST: Final = "manifest.json"
_AUTHORISATION: Final = "authorization-plugins"
_PLUGIN: Final = "opa-docker-authz"


class Retirement:
    """One host's earlier installation."""

    def __init__(self, traces: Traces) -> None:
        """Say where to look."""
        self.traces = traces
        self.home = traces.at(HOME)
        self.daemon_json = traces.at(settings.DAEMON_JSON)

    def planned(self) -> list[Trace]:
        """Return what would be taken away now."""
        if not self.traces.present():
            return []
        return self.traces.find() + ([] if self.settled() else self.traces.leftovers())

    def settled(self) -> bool:
        """Whether the state and logs that are there now are our own: set aside before, or DS01 was here first."""
        return bool(self._manifest().get("leftovers_moved")) or self.traces.at(RUNTIME).is_dir()

    def retire(self, planned: Iterable[Trace]) -> None:
        """Take these things away, jobs first.

        Raises:
            OSError: Something could not be moved; what came before it is done and known.
            EngineError: A unit could not be stopped.
        """
        planned = list(planned)
        # Until now members of the group docker could write here, and root's jobs read what they wrote.
        for directory in (STATE, LOGS):
            files.ensure_directory(self.traces.at(directory), mode=0o755, uid=0, gid=0)
        files.ensure_directory(self.home, mode=0o700, uid=0, gid=0)
        self._release_engine()
        for trace in planned:
            if trace.kind == "crontab":
                self._clean_crontab(trace.path)
            elif trace.kind == "unit":
                self._stop(trace.path.name)
            if trace.kind != "crontab":
                self._set_aside(trace)
        if any(trace.kind in {"cron", "crontab"} for trace in planned):
            end_running_jobs()
        if any(trace.kind in {"unit", "engine", "slice"} for trace in planned):
            restart.systemctl("daemon-reload")
        self._note(leftovers_moved=True)

    def restorable(self) -> list[str]:
        """Return the paths that `put_back` would bring back."""
        manifest = self._manifest()
        return [entry["from"] for entry in manifest.get("moved", [])] + list(manifest.get("crontabs", {}))

    def known(self) -> bool:
        """Whether anything was ever taken away here."""
        return bool(self._manifest())

    def put_back(self) -> list[str]:
        """Bring everything back to where it was.

        Returns:
            What could not go back because something else is in its place; it stays in the backup.
        """
        manifest = self._manifest()
        kept = []
        for entry in reversed(manifest.get("moved", [])):
            source, target = self.traces.at(entry["to"]), self.traces.at(entry["from"])
            if not _exists(source):
                continue
            if _exists(target):
                kept.append(entry["to"])
                continue
            if not target.parent.is_dir():
                files.ensure_directory(target.parent, mode=0o755)
            _move(source, target)
        for path, text in manifest.get("crontabs", {}).items():
            files.atomic_write(self.traces.at(path), text.encode(errors="surrogateescape"), mode=0o600)
        self._give_engine_back(manifest)
        restart.systemctl("daemon-reload")
        for unit in manifest.get("units", []):
            if unit["enabled"]:
                run(["systemctl", "enable", unit["name"]])
            if unit["active"]:
                run(["systemctl", "start", unit["name"]])
        files.remove_file(self.home / _MANIFEST)
        if not any(path.startswith(HOME) for path in kept):
            shutil.rmtree(self.home)
        with contextlib.suppress(OSError):
            self.traces.at(OLD_LOGS).rmdir()
        return kept

    def _set_aside(self, trace: Trace) -> None:
        source = "/" + str(trace.path.relative_to(self.traces.root))
        target = f"{OLD_LOGS}/{trace.path.name}" if trace.kind == "log" else f"{HOME}/files{source}"
        if source in {OLD_LOGS, HOME}:
            return
        manifest = self._manifest()
        manifest.setdefault("moved", []).append({"kind": trace.kind, "from": source, "to": target})
        self._store(manifest)
        destination = self.traces.at(target)
        files.ensure_directory(destination.parent, mode=0o755 if trace.kind == "log" else 0o700)
        # A second installation of the same file, after the first was set aside.
        if _exists(destination):
            _move(destination, destination.with_name(f"{destination.name}.older"))
        _move(trace.path, destination)

    def _clean_crontab(self, path: Path) -> None:
        # Whatever its owner wrote comes back byte for byte.
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        manifest = self._manifest()
        manifest.setdefault("crontabs", {})["/" + str(path.relative_to(self.traces.root))] = text
        self._store(manifest)
        jobs = {line for line in active_lines(text) if speaks(line)}
        kept = "".join(line for line in text.splitlines(keepends=True) if line.rstrip("\n") not in jobs)
        files.atomic_write(path, kept.encode(errors="surrogateescape"), mode=0o600)

    def _stop(self, name: str) -> None:
        manifest = self._manifest()
        known = manifest.setdefault("units", [])
        if all(unit["name"] != name for unit in known):
            enabled = run(["systemctl", "is-enabled", "--quiet", name]).ok
            known.append({"name": name, "enabled": enabled, "active": units.is_active(name)})
            self._store(manifest)
        # First out of everybody's requirements, then stopped: the engine would stop with a unit that it requires.
        restart.systemctl("disable", name)
        restart.systemctl("stop", name)

    def _release_engine(self) -> None:
        """Take out of daemon.json what needs the earlier DS01: its socket, its authorisation plugin."""
        text = read_file(self.daemon_json)
        try:
            there = settings.parse(text)
        except EngineError:
            # The engine's own set-up refuses a broken file and says so.
            return
        after = settings.merge(there, {})
        plugins = [name for name in there.get(_AUTHORISATION, []) if _PLUGIN not in str(name)]
        if plugins:
            after[_AUTHORISATION] = plugins
        else:
            after.pop(_AUTHORISATION, None)
        if after == there:
            return
        self._note(daemon_json={key: there[key] for key in ("hosts", _AUTHORISATION) if key in there})
        if _AUTHORISATION in there:
            # The engine asks the plugin until it is told not to, and refuses everything once the plugin is gone.
            restore_file(self.daemon_json, settings.render({**there, _AUTHORISATION: plugins}))
            if units.is_active():
                restart.systemctl("reload", units.SERVICE)
        restore_file(self.daemon_json, settings.render(after))

    def _give_engine_back(self, manifest: dict[str, Any]) -> None:
        taken = manifest.get("daemon_json")
        if taken:
            there = settings.parse(read_file(self.daemon_json))
            restore_file(self.daemon_json, settings.render({**there, **taken}))

    def _manifest(self) -> dict[str, Any]:
        try:
            text = (self.home / _MANIFEST).read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        found: dict[str, Any] = json.loads(text)
        return found

    def _store(self, manifest: dict[str, Any]) -> None:
        files.atomic_write(self.home / _MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n", mode=0o600)

    def _note(self, **facts: Any) -> None:
        manifest = self._manifest()
        if any(manifest.get(key) != value for key, value in facts.items()):
            self._store({**manifest, **facts})


def end_running_jobs() -> None:
    """End the earlier DS01's jobs that cron started and that still run: they might be removing containers."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes().decode("utf-8", "replace")
            place = (process / "cgroup").read_text(encoding="utf-8")
        except OSError:
            continue
        if INSTALLATION in command and "cron.service" in place:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGTERM)


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _move(source: Path, target: Path) -> None:
    """Move across file systems too, with owner, mode and times."""
    try:
        source.rename(target)
    except OSError:
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True, copy_function=_copy, dirs_exist_ok=True)
            shutil.rmtree(source)
        else:
            _copy(str(source), str(target))
            source.unlink()


def _copy(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)
    found = os.lstat(source)
    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
