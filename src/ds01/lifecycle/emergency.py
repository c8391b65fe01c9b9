"""The emergency stop: which containers an administrator means, and what is left alone.

Containers are stopped, never removed, each with the grace of its type. What belongs to the system or to nobody is not
touched, and neither is a process outside of containers: that is named, for whoever decides about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ds01.gpu.attribution import person
from ds01.ledger import View, devices, leases, objects
from ds01.ledger.rows import Occupant
from ds01.lifecycle.acts import Act
from ds01.lifecycle.rules import Lawbook
from ds01.lifecycle.seen import Seen, seen
from ds01.monitor.containers import infrastructure
from ds01.policy.nss import is_admin
from ds01.problems import ReportedError
from ds01.reconcile.containers import seen_container

RULE = "stop-all"


class NoSuchDeviceError(ReportedError):
    """No device of this server has that name."""

    exit_code = 5


class Aim(NamedTuple):
    """What is meant: everything, unless a person or a device is named."""

    uid: int | None = None
    device: str | None = None
    """An id like 0 (with all its instances) or 0:1, or a UUID."""


class Selection(NamedTuple):
    """What would be stopped, and what is left alone: a line for each, with the reason."""

    acts: tuple[Act, ...]
    left: tuple[str, ...]


def select(
    view: View,
    tables: Mapping[str, Any],
    inspected: Iterable[Mapping[str, Any]],
    aim: Aim,
    *,
    default_runtime: str = "",
    reason: str,
    actor: Mapping[str, Any],
) -> Selection:
    """Choose among the containers of the engine.

    Args:
        view: The ledger: who owns what, who holds what.
        tables: The policy.
        inspected: The engine's inspections.
        aim: What is meant.
        default_runtime: The engine's.
        reason: Why, for the owners.
        actor: Who stops them.

    Raises:
        NoSuchDeviceError: `aim.device` is none.
    """
    system, book = infrastructure(tables), Lawbook(tables, view)
    users = None if aim.device is None else _users_of(view, aim.device)
    owners = {row.engine_id: row.uid for row in objects.listing(view, "container")}
    acts, left = [], []
    for container in inspected:
        one = seen(container, default_runtime, system)
        if (owner := owners.get(one.id)) is not None and owner != one.uid:
            one = one._replace(uid=owner, user=person(owner))
        if not going_on(container) or (aim.uid is not None and one.uid != aim.uid):
            continue
        if users is not None and not _uses(one, container, default_runtime, users):
            continue
        if one.uid is None:
            left.append(f"container {one.name}: nobody's: if you know what it does, `docker stop {one.name}`")
        elif one.marked and is_admin(tables, one.uid, one.user):
            left.append(f"container {one.name} of {one.user}: belongs to the system")
        else:
            acts.append(_act(one, book.rules(one.user, one.type).sigterm_s, reason, actor))
    if users is not None:
        left += users.processes
    return Selection(tuple(acts), tuple(left))


def going_on(container: Mapping[str, Any]) -> bool:
    """Whether an inspected container runs, is paused, or is about to start again."""
    state = container.get("State") or {}
    return bool(state.get("Running") or state.get("Restarting"))


class _Users(NamedTuple):
    """Who uses some devices: containers by id, names by which containers reach them past DS01, other processes."""

    containers: frozenset[str]
    names: frozenset[str]
    processes: tuple[str, ...]


def _users_of(view: View, name: str) -> _Users:
    meant = {
        row.uuid: row.id for row in devices.devices(view, gone=True)
        if name in {row.id, row.uuid} or row.id.startswith(f"{name}:")
    }  # fmt: skip
    if not meant:
        known = ", ".join(row.id for row in devices.devices(view)) or "none"
        raise NoSuchDeviceError(f"{name}: no device of this server has that name: there are {known}")
    held = {lease.container_id for lease in leases.live(view) if lease.device in meant and lease.container_id}
    foreign = [one for one in devices.occupants(view) if one.device in meant]
    return _Users(
        frozenset(held | {one.id for one in foreign if one.kind == "container"}),
        frozenset({"all", *meant, *meant.values()}),
        tuple(_process(one, meant[one.device]) for one in foreign if one.kind == "process"),
    )


def _process(one: Occupant, device: str) -> str:
    number = one.id.partition(":")[0]
    return f"process {number} ({one.name}) on {device}: in no container: `sudo kill {number}` if it must end"


def _uses(one: Seen, container: Mapping[str, Any], default_runtime: str, users: _Users) -> bool:
    if one.id in users.containers:
        return True
    found = seen_container(container, default_runtime)
    return found.token is None and not users.names.isdisjoint(found.names)


def _act(one: Seen, grace_s: int, reason: str, actor: Mapping[str, Any]) -> Act:
    assert one.uid is not None  # noqa: S101 - nobody's containers are left alone
    return Act(
        kind="stop", container=one.id, name=one.name, uid=one.uid, user=one.user, rule=RULE, limit_from="ds01 stop-all",
        reason=f"an administrator stopped it: {reason}", fix="Ask the administrator before you start it again.",
        grace_s=grace_s, still=going_on, actor=actor,
    )  # fmt: skip
