"""People who leave: archived and disabled at once, removed after a period of grace. A dry run unless told otherwise.

Every step is written down before the next begins and can be done again: an interrupted run is simply repeated.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .. import events
from ..problems import ApplyError, RefusedError
from . import archive, leaving, presence
from .accounts import Accounts, locked
from .bulk import one_run
from .leaving import Choice
from .model import ADMIN_GROUP
from .register import ARCHIVE, Leaver, load_all
from .spec import parse_people

GRACE_DAYS: Final = 90
_CLOCK_TICK_S: Final = 0.1
"""Ten times the coarsest tick of a Linux kernel (HZ=100)."""


def run(config: Mapping[str, Any], *, act: bool) -> dict[str, Any]:
    """Take the departed one step further.

    Args:
        config: `departed` ("expired", "unlisted", or a list of logins), `people` (the list, see `ds01.users.spec`),
            `grace_days`, `admins` (`groups` and `users` who may not be off-boarded), `scratch_base`,
            `archive_directory`.
        act: Do it; otherwise only say exactly what would be done.

    Returns:
        `people` (one report each: login, uid, stage, steps, directories with bytes, left_alone, sessions, processes,
        containers, running_containers, archive, remove_after, blocked, failed), `refused`, `would_change`, `changed`.

    Raises:
        RefusedError: Somebody may not be off-boarded; nothing was changed. Holds all problems.
        ApplyError: Another run is at work; nothing was changed. A step that fails is in the person's report, and the
            next run continues there.
    """
    people, problems = parse_people(config.get("people") or [])
    if problems:
        raise RefusedError(problems)
    with contextlib.ExitStack() as stack:
        if act:
            stack.enter_context(one_run())
        today = dt.datetime.now(dt.UTC).date()
        admins = config.get("admins") or {}
        choice = Choice(
            accounts=Accounts(),
            listed={person.name: person.expires for person in people},
            records={leaver.login: leaver for leaver in load_all()},
            admin_groups=(*dict.fromkeys([ADMIN_GROUP, "sudo", *(admins.get("groups") or ())]),),
            admin_users=tuple(admins.get("users") or ()),
            scratch_base=config.get("scratch_base"),
            today=today,
        )
        departed = config.get("departed") or []
        leavers, problems = choice.choose(departed)
        # Whoever is named must be right; whoever a rule finds is reported and the others go on.
        if problems and departed not in leaving.KEYWORDS:
            raise RefusedError(problems)
        engine, unknown = _containers()
        grace = dt.timedelta(days=int(config.get("grace_days", GRACE_DAYS)))
        store = Path(config.get("archive_directory") or ARCHIVE)
        reports = [_Step(leaver, store, act=act).take(engine, unknown, today, grace) for leaver in leavers]
    would = any(report["steps"] for report in reports)
    refused = [str(problem) for problem in problems]
    return {"people": reports, "refused": refused, "would_change": would, "changed": would and act}


def _containers() -> tuple[list[dict[str, Any]], str | None]:
    try:
        return presence.containers(), None
    except presence.UnknownError as error:
        return [], str(error)


class _Step:
    """The next step of one person."""

    def __init__(self, leaver: Leaver, store: Path, *, act: bool) -> None:
        self._leaver = leaver
        self._store = store
        self._act = act
        self._paths = left_behind(leaver)
        self._sizes = {path: archive.size_of([path]) for path in self._paths}
        self._words: list[str] = []

    def take(
        self, engine: Sequence[dict[str, Any]], unknown: str | None, today: dt.date, grace: dt.timedelta
    ) -> dict[str, Any]:
        """Take the step, or say what it would be."""
        leaver = self._leaver
        owned = presence.owned(engine, leaver.login, leaver.uid, filter(None, [leaver.home, leaver.scratch]))
        running = [name for name, runs in owned if runs]
        report: dict[str, Any] = {
            "login": leaver.login,
            "uid": leaver.uid,
            "directories": self._sizes,
            "left_alone": [
                path for path in leaving.places(leaver) if os.path.lexists(path) and path not in self._paths
            ],
            "sessions": presence.sessions(leaver.uid),
            "processes": presence.processes(leaver.uid),
            "containers": [name for name, _ in owned],
            "running_containers": running,
            "blocked": None,
            "failed": None,
        }
        try:
            self._disable_and_archive(today)
            due = dt.date.fromisoformat(leaver.disabled_on or today.isoformat()) + grace
            report["remove_after"] = due.isoformat()
            # Never in the run that disables: there is always time to look at what the first step did.
            if not self._words and leaver.stage == "archived" and today >= due:
                report["blocked"] = self._in_the_way(running, report["processes"], unknown)
                if report["blocked"] is None:
                    self._remove()
        except (ApplyError, OSError) as error:
            report["failed"] = str(error)
        return report | {"stage": leaver.stage, "archive": leaver.archive, "steps": self._words}

    def _disable_and_archive(self, today: dt.date) -> None:
        leaver = self._leaver
        if leaver.stage == "begun":
            self._words += leaving.words_disable(leaver)
            if self._act:
                leaving.disable(leaver, today)
        if leaver.stage == "archived":
            return
        if self._paths:
            size = sum(self._sizes.values()) >> 10
            self._words.append(
                f"archive {', '.join(self._paths)} ({size} KiB) to {self._store}, 0600, and read it back"
            )
        else:
            self._words.append("nothing to archive: no home and no scratch directory")
        if not self._act:
            return
        if self._paths:
            self._pack()
        leaver.stage = "archived"
        leaver.save()
        _event(
            "user.archive",
            leaver,
            f"archived to {leaver.archive}" if leaver.archive else "there was nothing to archive",
        )

    def _in_the_way(self, running: Sequence[str], processes: int, unknown: str | None) -> str | None:
        if unknown is not None:
            return f"the engine does not say which containers run ({unknown}): nothing is removed until it does"
        if running:
            return f"containers run: {', '.join(running)}: stop them first, nothing here does"
        if processes:
            return f"{processes} processes run as this person: end them first, nothing here does"
        mounted = presence.mounts_below(self._paths)
        if mounted:
            return f"mounted within: {', '.join(mounted)}: unmount first, or what is mounted there would be removed"
        return None

    def _pack(self) -> None:
        # The clock that stamps files ticks coarsely: a change just before must not look like one after the archive.
        time.sleep(_CLOCK_TICK_S)
        moment = time.time() - _CLOCK_TICK_S / 2
        made = archive.pack(self._leaver.login, self._paths, self._store)
        self._leaver.archive, self._leaver.archive_sha256, self._leaver.archived_at = made.path, made.sha256, moment

    def _remove(self) -> None:
        leaver = self._leaver
        # A clock that was ahead then would hide every change since.
        known = leaver.archived_at is not None and leaver.archived_at <= time.time()
        stale = not known or archive.changed_since(self._paths, leaver.archived_at or 0)
        if self._paths and stale:
            self._words.append("archive once more: files changed since the last archive")
            if self._act:
                self._pack()
                leaver.save()
        self._words += [f"remove {path}" for path in self._paths]
        if leaver.local:
            self._words.append(
                f"remove the account, its group and its memberships; uid {leaver.uid} is never given out again"
            )
        self._words.append(f"keep {leaver.archive}" if leaver.archive else "there is no archive to keep")
        if not self._act:
            return
        if self._paths:
            _verify(leaver)
        leaving.remove_directories(leaver, self._paths)
        with locked():
            leaving.remove_account(leaver)
        leaver.stage = "removed"
        leaver.removed_on = dt.datetime.now(dt.UTC).date().isoformat()
        leaver.save()
        _event("user.remove", leaver, "the period of grace is over")


def left_behind(leaver: Leaver) -> list[str]:
    """Return what of a person's is there to be archived and removed: real directories and files, never links."""
    return [path for path in leaving.places(leaver) if os.path.lexists(path) and leaving.is_theirs(path, leaver.uid)]


def _verify(leaver: Leaver) -> None:
    if leaver.archive is None or not Path(leaver.archive).is_file():
        raise ApplyError(
            f"{leaver.login}: {leaver.archive}: the archive is gone: nothing was removed: restore it, or archive again"
        )
    if archive.read_back(Path(leaver.archive)) != leaver.archive_sha256:
        raise ApplyError(
            f"{leaver.login}: {leaver.archive}: not what was archived: nothing was removed: restore it from a backup"
        )


def _event(kind: Any, leaver: Leaver, reason: str) -> None:
    events.record(
        kind,
        subject={"kind": "user", "name": leaver.login, "id": leaver.uid},
        decision="changed",
        rule="offboarding",
        reason=reason,
        details={"archive": leaver.archive, "sha256": leaver.archive_sha256},
    )
