"""Whether the ledger agrees with the rules and with itself."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ds01.allocator.choice import EPSILON
from ds01.allocator.decide import holdings

if TYPE_CHECKING:
    from ds01.allocator.model import Snapshot
    from ds01.allocator.people import People
    from ds01.ledger import View


def contradictions(view: View, snapshot: Snapshot, people: People) -> list[str]:
    """Return one sentence for each: leases on bad devices, over quotas and beside foreign use."""
    return [*_ledger(view), *_devices(snapshot), *_quotas(snapshot, people)]


def _ledger(view: View) -> list[str]:
    reason = view.value("SELECT value FROM meta WHERE key = 'unverified'")
    if reason is None:
        return []
    return [f"nothing is granted: the ledger is {reason} and not yet compared with what runs: ds01 enforce reconcile"]


def _devices(snapshot: Snapshot) -> list[str]:
    found = []
    for device in snapshot.devices:
        if device.holder is None:
            continue
        who = f"{device.holder.user} ({device.holder.container or 'no container yet'})"
        if device.state != "ok":
            why = f": {device.reason}" if device.reason else ""
            found.append(
                f"{device.id} of {who} is {device.state}{why}: stop the container; at its start it gets another"
            )
        if device.foreign is not None:
            found.append(f"{device.id} of {who} is also used by {device.foreign}: ds01 gpu processes shows whose it is")
    return found


def _quotas(snapshot: Snapshot, people: People) -> list[str]:
    """Say who holds more than the policy gives today: after a change of the policy nothing running is taken away."""
    found = []
    holders = [device.holder for device in snapshot.devices if device.holder]
    for uid, user, group in Counter((holder.uid, holder.user, holder.group) for holder in holders):
        limits = people.known(uid, user, group, snapshot.now).limits
        mine = holdings(snapshot, uid=uid)
        for name, held, limit in (
            ("max_mig_instances", mine.devices, limits.max_mig_instances),
            ("max_gpu_equivalents", mine.equivalents, limits.max_gpu_equivalents),
        ):
            if limit is not None and held > limit + EPSILON:
                found.append(
                    f"{user} holds {held:g}, {name} is {limit:g}: nothing is taken away, nothing more is given"
                )
    return found
