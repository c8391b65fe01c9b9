"""Make a host what its slices shall be, and look at the kernel afterwards.

A run may end at any point: the next one finds what is missing by comparing again.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence

from .. import events
from ..files import remove_file
from .desired import OVERRIDE_FILE, Desired, Logins, LoginSpec, NoLogins, NoSlices, Slices
from .names import parse_login_slice, parse_user_slice
from .people import exempt_uids, host_groups, unknown_uids
from .plan import Host, HostState, Plan, Push, gather, plan, wrong_in_kernel
from .spec import SliceSpec
from .system import change_files, only_one, reload, write_through


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found, did and could not do."""

    plan: Plan
    still_wrong: Sequence[Push] = ()
    """Live slices that the kernel has otherwise even now."""

    @property
    def changes(self) -> list[str]:
        """Return one line for people about each change."""
        return self.plan.lines()

    @property
    def problems(self) -> list[str]:
        """Return one line for people about each slice that is still wrong."""
        return [
            f"{push.name}: "
            + ", ".join(f"{key} is {old}, not {new}" for key, (old, new) in push.differences.items())
            + ": expected the limit of the policy: look for other drop-ins with `systemctl cat`, "
            "or for more memory in use than the limit allows"
            for push in self.still_wrong
        ]


def converge_slices(
    data: SliceSpec, now: dt.datetime, *, host: Host | None = None, dry_run: bool = False, via: str
) -> Outcome:
    """Make the slices of containers what the specification says.

    Args:
        data: The specification.
        now: The time by which overrides expire.
        host: Where things are.
        dry_run: Only plan.
        via: Who asks, for the event.

    Raises:
        ApplyError: systemd or another run was in the way.
        OSError: A file could not be read or written.
    """

    def desired(state: HostState) -> Desired:
        known = {
            owner.user: owner.group
            for name in state.files
            if name.endswith(f"/{OVERRIDE_FILE}")
            and (owner := parse_user_slice(name.rpartition(".d/")[0])) is not None
            and owner.group in data.groups
        }
        users = {owner.user for name in state.live if (owner := parse_user_slice(name)) is not None} | set(
            data.overrides
        )
        found = host_groups(data, users - data.members.keys())
        # While the name services do not answer, an override stays where it is.
        return Slices(data, now, {user: known[user] for user in known.keys() & data.overrides.keys()} | found)

    return _converge(Slices, desired, host or Host(), dry_run=dry_run, via=via)


def converge_logins(data: LoginSpec, *, host: Host | None = None, dry_run: bool = False, via: str) -> Outcome:
    """Make the slices of logins what the specification says. Arguments and errors as for `converge_slices`."""

    def desired(state: HostState) -> Desired:
        live = [uid for name in state.live if (uid := parse_login_slice(name)) is not None]
        slices = (name.rpartition(".d/")[0] for name in state.files)
        exempt = [uid for name in slices if (uid := parse_login_slice(name)) is not None]
        return Logins(data, exempt_uids(data, live) | unknown_uids(exempt))

    return _converge(Logins, desired, host or Host(), dry_run=dry_run, via=via)


def remove_slices(*, host: Host | None = None, dry_run: bool = False, via: str) -> Outcome:
    """Take the slices of containers off the host; live ones lose their limits. Errors as for `converge_slices`."""
    return _converge(NoSlices, lambda _state: NoSlices(), host or Host(), dry_run=dry_run, via=via)


def remove_logins(*, host: Host | None = None, dry_run: bool = False, via: str) -> Outcome:
    """Take the limits of logins off the host, off live ones too. Errors as for `converge_slices`."""
    return _converge(NoLogins, lambda _state: NoLogins(), host or Host(), dry_run=dry_run, via=via)


def _converge(
    family: type[Desired], desire: Callable[[HostState], Desired], host: Host, *, dry_run: bool, via: str
) -> Outcome:
    if dry_run:
        state = gather(family, host)
        return Outcome(plan(desire(state), state))
    with only_one(host):
        state = gather(family, host)
        desired = desire(state)
        todo = plan(desired, state)
        if not todo.changed:
            return Outcome(todo)
        change_files(todo, host.units, host.reload_marker)
        if todo.reload:
            reload()
            remove_file(host.reload_marker)
        # The kernel is asked again: a container may have started between the plan and the reload.
        wrong = wrong_in_kernel(desired, gather(family, host).live)
        for name in dict.fromkeys([*(push.name for push in todo.pushes), *(push.name for push in wrong)]):
            write_through(name)
        outcome = Outcome(todo, wrong_in_kernel(desired, gather(family, host).live))
    _record(family, outcome, via)
    return outcome


def _record(family: type[Desired], outcome: Outcome, via: str) -> None:
    subject = {"kind": "slices", "name": family.top}
    actor = events.this_process(via)
    events.record(
        "policy.load", actor=actor, subject=subject, decision="changed", details={"changes": outcome.plan.lines()}
    )
    for problem, push in zip(outcome.problems, outcome.still_wrong, strict=True):
        events.record(
            "health.fail",
            actor=actor,
            subject={"kind": "slice", "name": push.name},
            decision="failed",
            rule="slices",
            reason=problem,
        )
