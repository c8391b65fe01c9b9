"""Give the engine back as it was: its settings, its socket, the members of its group. Containers run on."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from . import adopt, group, restart, settings, units
from .api import Engine, EngineUnavailableError
from .apply import read_file, remove_drop_in, restore_file
from .record import Record


@dataclasses.dataclass(frozen=True)
class Return:
    """What goes back.

    Attributes:
        text: daemon.json as it will be; None removes it.
        members: Who is a member of the group docker again.
        restart: Whether the engine has to be restarted.
        disable: Units that do not start at boot any more.
        remove_directory: Whether the directory of daemon.json goes too, if it is empty.
        containers: Containers that start where the engine puts them again.
    """

    text: str | None
    members: list[str]
    restart: bool
    disable: list[str]
    remove_directory: bool
    containers: list[dict[str, Any]]


class EngineReturn:
    """Undo `EngineSetup.apply`."""

    def __init__(
        self,
        *,
        engine: Engine | None = None,
        record: Record | None = None,
        daemon_json: Path = Path(settings.DAEMON_JSON),
        drop_in: Path = Path(units.DROP_IN),
    ) -> None:
        """Say where things are."""
        self.engine = engine or Engine()
        self.record = record or Record()
        self.daemon_json = daemon_json
        self.drop_in = drop_in

    def plan(self) -> Return | None:
        """Return what has to be done, or None if nothing of ours is there.

        Raises:
            EngineError: daemon.json is broken.
        """
        before = self.record.before()
        if before is None:
            return None
        there = settings.parse(read_file(self.daemon_json), str(self.daemon_json))
        earlier = settings.parse(before["daemon_json"], str(self.daemon_json))
        ours = settings.wanted(version="", log_max_size="", log_max_files=0)
        back = settings.take_back(there, earlier, ours)
        text: str | None = settings.render(back)
        if back == earlier:
            text = before["daemon_json"]
        return Return(
            text=text,
            members=sorted({*group.members(), *before["docker_members"]}),
            restart=back != there or read_file(self.drop_in) is not None,
            disable=before["enabled_by_us"],
            remove_directory=not before["directory"],
            containers=(self.record.adopted() or {}).get("containers", []),
        )

    def apply(self, plan: Return) -> list[str]:
        """Carry it out.

        Returns:
            The names of the containers that ran through it.

        Raises:
            EngineError: The engine did not come back, or a container did not survive.
        """
        before: dict[str, tuple[str, int]] = {}
        if plan.restart and units.is_installed():
            before = self._restart(plan)
        else:
            restore_file(self.daemon_json, plan.text)
            remove_drop_in(self.drop_in)
        if plan.members != group.members():
            group.set_members(plan.members)
        if plan.disable and units.is_installed():
            restart.systemctl("disable", *plan.disable)
        if plan.text is None and plan.remove_directory:
            with contextlib.suppress(OSError):
                self.daemon_json.parent.rmdir()
        self.record.forget()
        return sorted(name for name, _pid in before.values())

    def _restart(self, plan: Return) -> dict[str, tuple[str, int]]:
        info: dict[str, Any] = {}
        before: dict[str, tuple[str, int]] = {}
        if units.is_active():
            with contextlib.suppress(EngineUnavailableError):
                info = self.engine.info()
                before = restart.running(self.engine)
        # A starting engine ends the containers that ran on unless live-restore is on; it may be switched off only then.
        settings_back = settings.parse(plan.text, str(self.daemon_json))
        restore_file(self.daemon_json, settings.render({**settings_back, "live-restore": True}))
        remove_drop_in(self.drop_in)
        restart.cycle(self.engine, lambda: adopt.move_back(plan.containers, restart.data_root(info)))
        restart.require_survival(before, self.engine)
        if not settings_back.get("live-restore"):
            # A key that is absent is left as it is by a reload, so it has to be said once.
            restore_file(self.daemon_json, settings.render({**settings_back, "live-restore": False}))
            restart.live_restore(self.engine, wanted=False)
        restore_file(self.daemon_json, plan.text)
        return before
