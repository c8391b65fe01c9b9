"""Slices and logins of this host as its policy has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ds01.policy.handover import handover
from ds01.slices.apply import Outcome as Slices
from ds01.slices.apply import converge_logins, converge_slices
from ds01.slices.desired import LoginSpec
from ds01.slices.devices import Outcome as Devices
from ds01.slices.devices import converge_devices
from ds01.slices.spec import SliceSpec

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from ds01.policy import LoadedPolicy


class Outcome(NamedTuple):
    """What was changed, or would be, and what the kernel has otherwise even so."""

    changes: list[str]
    problems: list[str]


def enforce_slices(
    loaded: LoadedPolicy, now: datetime, *, granted: Collection[int] | None, dry_run: bool, prove: bool
) -> Outcome:
    """Make slices and logins what the policy says, from the same data that provisioning has.

    Args:
        loaded: The policy.
        now: The time by which overrides expire.
        granted: Who may use the GPUs of the host by a grant; None leaves that as it is.
        dry_run: Only plan.
        prove: Try out in every login whether the GPUs of the host are closed.

    Raises:
        ApplyError: systemd or another run was in the way.
        OSError: A file could not be read or written.
    """
    data = handover(loaded, now)
    caps = LoginSpec.from_dict(data["logins"])
    outcomes: list[Slices | Devices] = [
        converge_slices(SliceSpec.from_dict(data["slices"]), now, dry_run=dry_run, via="enforce"),
        converge_logins(caps, dry_run=dry_run, via="enforce"),
        converge_devices(caps, granted, dry_run=dry_run, prove=prove, via="enforce"),
    ]
    return Outcome(
        [line for outcome in outcomes for line in outcome.changes],
        [line for outcome in outcomes for line in outcome.problems],
    )
