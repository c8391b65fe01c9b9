"""How much of each limit people use, from the kernel. What cannot be read is left out: unknown is not zero."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from ds01.ledger import Transaction, View, disk
from ds01.lifecycle.room import LIMIT, advice
from ds01.monitor import cgroups
from ds01.policy.units import rounded_size
from ds01.slices.names import parse_user_slice

_CPU_MS: Final = 600_000
"""CPUs are averaged over this time: a compiler that takes all of them for a minute is no news."""
_CPU_STATE: Final = "cpu averages"
_GIB: Final = 2**30
_ROUNDED: Final = 0.01
"""File systems round a quota to blocks; one that is further from the policy's is not ours, or the whole disk."""


class Person(NamedTuple):
    """Somebody with an account."""

    uid: int
    user: str
    home: str


class Use(NamedTuple):
    """How much of a limit somebody uses."""

    limit: str
    used: float
    most: float
    text: str
    """Both, for people."""
    fix: str = ""
    """What to do about it, where that depends on what there is."""


def use(limit: str, used: float, most: float | None, what: str) -> Use | None:
    """Return how much of a countable limit is used; None without one, or of one: to have that is what was asked for."""
    return None if not most or most == 1 else Use(limit, used, most, f"You have {used:.4g} of {most:.4g} {what}")


def people(uids: Iterable[int], users: Iterable[str]) -> list[Person]:
    """Return who these are, each once; whoever has no account any more is left out."""
    found = {}
    for uid in uids:
        with suppress(KeyError):
            found[uid] = pwd.getpwuid(uid)
    for user in users:
        with suppress(KeyError):
            entry = pwd.getpwnam(user)
            found[entry.pw_uid] = entry
    return [Person(entry.pw_uid, entry.pw_name, entry.pw_dir) for _, entry in sorted(found.items())]


def slices(root: Path = cgroups.ROOT) -> dict[str, list[cgroups.Group]]:
    """Return the slices of each person; after a change of group there may be two."""
    found: dict[str, list[cgroups.Group]] = {}
    for name, group in cgroups.find(root).slices.items():
        if (owner := parse_user_slice(name)) is not None:
            found.setdefault(owner.user, []).append(group)
    return found


def of_slice(groups: Sequence[cgroups.Group]) -> Iterator[Use]:
    """Yield what containers use of the limits that the kernel has for all of one person's together."""
    for group in groups:
        memory, most = group.needed_memory, group.memory_max
        if memory is not None and most:
            yield Use(
                "memory", memory, most, f"Your containers need {memory / _GIB:.1f} of {most / _GIB:.1f} GiB memory"
            )
        tasks, most = group.tasks, group.tasks_max
        if tasks is not None and most:
            yield Use("tasks", tasks, most, f"Your containers have {tasks} of {most} processes and threads")


class CpuAverages:
    """The CPUs that each person's slices took, averaged from pass to pass; kept in the ledger."""

    def __init__(self, view: View) -> None:
        """Take up what the last passes saw, of this boot."""
        self._moment = view.moment
        known = json.loads(view.value("SELECT value FROM meta WHERE key = ?", (_CPU_STATE,)) or "{}")
        self._known: dict[str, Any] = known if known.pop("boot", None) == view.moment.boot else {}
        self._now: dict[str, Any] = {}

    def of(self, groups: Sequence[cgroups.Group]) -> Iterator[Use]:
        """Yield what the slices of a person used in the last minutes, once that is known."""
        for group in groups:
            cpu_us, most, at = group.cpu_us, group.cpus_max, self._moment.boot_ms
            if cpu_us is None or most is None:
                continue
            begin, before, average = self._known.get(group.path, (at, cpu_us, None))
            if cpu_us < before:
                begin, before, average = at, cpu_us, None  # Made anew.
            elif at - begin >= _CPU_MS:
                begin, before, average = at, cpu_us, (cpu_us - before) / 1000 / (at - begin)
            self._now[group.path] = (begin, before, average)
            if average is not None:
                yield Use("cpus", average, most, f"Your containers took {average:.1f} of {most:g} CPUs for ten minutes")

    def keep(self, tx: Transaction) -> None:
        """Keep them for the next pass."""
        state = json.dumps({"boot": self._moment.boot, **self._now})
        tx.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_CPU_STATE, state))


def space(view: View, person: Person, most: int | None) -> Use | None:
    """Return what a person's containers, volumes and images take, as it was measured last."""
    uses = disk.uses(view, person.uid)
    if not most or not uses:
        return None
    used = sum(one.bytes for one in uses)
    text = f"Your containers, volumes and images take {rounded_size(used)} of {rounded_size(most)}"
    return Use(LIMIT, used, most, text, f"When that is full, nothing new is made for you. {advice(uses)}.")


def disks(tables: Mapping[str, Any], person: Person, limits: Mapping[str, Any]) -> Iterator[Use]:
    """Yield what a person's home and scratch take of their project quotas, as the file systems themselves tell it.

    A directory with a project quota says what is free of that, not of the disk (statfs(2) of ext4 and XFS).
    """
    roots = tables["storage"]
    places = (
        ("storage.home", roots["home_root"], person.home, "home directory"),
        ("storage.scratch", roots["scratch_root"], f"{roots['scratch_root']}/{person.user}", "scratch directory"),
    )
    for limit, root, path, what in places:
        most = limits.get(limit)
        if not most or not Path(path).is_relative_to(root):
            continue
        try:
            found = os.statvfs(path)
        except OSError:
            continue
        total = found.f_blocks * found.f_frsize
        if abs(total - most) <= _ROUNDED * most:
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            yield Use(limit, used, most, f"Your {what} has {used / _GIB:.1f} of {most / _GIB:.1f} GiB")
