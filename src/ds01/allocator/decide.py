"""One decision: these devices, or why not. Pure: the same request and snapshot always give the same answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ds01.allocator.blockers import blocker, divided, matches, names, profiles
from ds01.allocator.choice import EPSILON, choose, lightest, most, ranking
from ds01.allocator.model import DeviceView, Grant, Person, Refusal, Snapshot
from ds01.engine.owners import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds01.allocator.blockers import Blocker
    from ds01.allocator.model import Kind
    from ds01.allocator.request import Request

# Of several causes the one is told that ends soonest by itself.
_KINDS: tuple[Kind, ...] = ("capacity", "reservation", "unhealthy", "permission")
# Where waiting cannot help, the one that somebody can mend.
_LASTING: tuple[Kind, ...] = ("unhealthy", "capacity", "reservation", "permission")
_FIX = {
    "capacity": "wait for one (--wait, or the label ds01.wait=2h), or come back later",
    "reservation": "ask for less time so that it ends before, or wait until the reservation is over",
    "unhealthy": "ask for another device, or tell an administrator",
    "permission": "ask for a MIG device, or ask an administrator",
}


def decide(request: Request, person: Person, snapshot: Snapshot) -> Grant | Refusal:
    """Return the devices for a request of a person, or why there are none."""
    return Grant(()) if request.count == 0 else _Decision(request, person, snapshot).answer()


@dataclass(frozen=True, slots=True)
class Holdings:
    """What somebody, or a group, holds: devices and the sum of their weights."""

    devices: int
    equivalents: float


def holdings(snapshot: Snapshot, *, uid: int | None = None, group: str | None = None) -> Holdings:
    """Return what a person or a group holds in a snapshot."""
    theirs = [
        device.weight
        for device in snapshot.devices
        if device.holder and (device.holder.uid == uid or (group is not None and device.holder.group == group))
    ]
    return Holdings(len(theirs), sum(theirs))


class _Decision:
    def __init__(self, request: Request, person: Person, snapshot: Snapshot) -> None:
        self.request, self.person, self.snapshot = request, person, snapshot
        self.limits = person.limits
        self.held = holdings(snapshot, uid=person.uid)
        self.wanted = [device for device in snapshot.devices if matches(device, request)]
        parents = divided(snapshot)
        found = [(device, blocker(device, request, person, snapshot, parents)) for device in self.wanted]
        self.free = [device for device, block in found if block is None]
        self.blocks = [block for _, block in found if block is not None]
        # What the person could have if nobody else held anything: waiting helps only for these.
        self.reachable = [d for d, block in found if block is None or block.kind in {"capacity", "reservation"}]

    def answer(self) -> Grant | Refusal:
        refusal = self._full() or self._unknown() or self._count()
        if refusal:
            return refusal
        count = self._all() if self.request.count is None else self._asked()
        budget = self._budget()
        chosen = choose(self.free, count, budget, ranking(self.request, self.person, self.snapshot))
        if chosen:
            return Grant(tuple(chosen), self._note(chosen))
        return self._too_much(count) or self._nothing_free(count)

    def _full(self) -> Refusal | None:
        explicit = bool(self.request.devices) and any(device.full for device in self.wanted)
        if self.limits.allow_full_gpu or not (self.request.full or explicit):
            return None
        parents = divided(self.snapshot)
        if explicit and all(device.gpu_uuid in parents for device in self.wanted if device.full):
            return None  # No device at all; that is the better answer.
        return Refusal(
            "permission",
            "allow_full_gpu",
            f"{self.person.user} may not use full GPUs",
            "ask for a MIG device, or ask an administrator for allow_full_gpu",
            requested=str(self.request),
            limit="MIG devices only",
            who=self._changes("allow_full_gpu"),
            possible=False,
        )

    def _unknown(self) -> Refusal | None:
        missing = [name for name in self.request.devices if not any(names(device, name) for device in self.wanted)]
        if missing:
            message = f"there is no device {', '.join(missing)}"
        elif self.wanted:
            return None
        else:
            message = f"this server has no {str(self.request).partition(' ')[2]}"
        known = ", ".join(device.id for device in self.snapshot.devices if device.state != "gone") or "none"
        fix = f"choose one of {known}" if missing else f"ask for one of these: {profiles(self.snapshot)}"
        return Refusal("capacity", "gpu.device", message, fix, requested=str(self.request), possible=False)

    def _count(self) -> Refusal | None:
        """Compare the number of devices with the quotas. `all` is at least one."""
        count = self._asked()
        cap, total = self.limits.max_gpus_per_container, self.limits.max_mig_instances
        if cap is not None and count > cap:
            text = f"one container may have {_devices(cap)}, {count} asked for"
            return self._quota("max_gpus_per_container", text, 0, count, cap, fix=f"ask for at most {cap}", never=True)
        if total is not None and self.held.devices + count > total:
            text = f"{self.person.user} holds {self.held.devices} of {_devices(total)} and asks for {count} more"
            never = count > total
            return self._quota(
                "max_mig_instances", text, self.held.devices, count, total, fix=self._give_back(), never=never
            )
        return None

    def _asked(self) -> int:
        """Return the least number of devices that satisfies: two names may mean one device."""
        return len(self.wanted) if self.request.devices else self.request.count or 1

    def _all(self) -> int:
        """Return how many devices `all` means now, at least one."""
        numbers = [most(self.free, self._budget())]
        if self.limits.max_gpus_per_container is not None:
            numbers.append(self.limits.max_gpus_per_container)
        if self.limits.max_mig_instances is not None:
            numbers.append(self.limits.max_mig_instances - self.held.devices)
        return max(1, min(numbers))

    def _budget(self) -> float | None:
        """Return the weights that the person and the group have left; None without limit."""
        left = []
        if self.limits.max_gpu_equivalents is not None:
            left.append(self.limits.max_gpu_equivalents - self.held.equivalents)
        if self.limits.group_equivalents is not None:
            left.append(self.limits.group_equivalents - self._group().equivalents)
        return min(left, default=None)

    def _group(self) -> Holdings:
        return holdings(self.snapshot, group=self.person.group)

    def _too_much(self, count: int) -> Refusal | None:
        """Return the refusal of what does not fit in a quota even if every device were free."""
        weight = lightest(self.reachable, count)
        own, group = self.limits.max_gpu_equivalents, self.limits.group_equivalents
        if weight is None:
            return None
        if own is not None and self.held.equivalents + weight > own + EPSILON:
            text = f"{self.person.user} holds {_number(self.held.equivalents)} of {_number(own)} GPU equivalents"
            text += f" and needs at least {_number(weight)} more"
            return self._quota(
                "max_gpu_equivalents",
                text,
                self.held.equivalents,
                weight,
                own,
                fix=self._give_back(),
                never=weight > own,
            )
        if group is not None and (current := self._group().equivalents) + weight > group + EPSILON:
            text = f"group {self.person.group} holds {_number(current)} of {_number(group)} GPU equivalents"
            fix = "wait until a member of the group gives one back, or ask an administrator"
            refusal = self._quota("group_aggregate.max_gpu_equivalents", text, current, weight, group, fix=fix)
            return replace(refusal, who=self._members() or refusal.who, frees_at=None)
        return None

    def _members(self) -> str:
        """Name those of the group who hold devices."""
        holders = (device.holder for device in self.snapshot.devices if device.holder)
        return ", ".join(sorted({holder.user for holder in holders if holder.group == self.person.group}))

    def _quota(
        self, rule: str, text: str, current: float, requested: float, limit: float, *, fix: str, never: bool = False
    ) -> Refusal:
        return Refusal(
            "quota",
            rule,
            text,
            fix,
            current=round(current, 3),
            requested=round(requested, 3),
            limit=limit,
            who=self._changes(rule),
            frees_at=None if never else self._own_end(),
            possible=not never,
        )

    def _give_back(self) -> str:
        mine = self._mine()
        if not mine:
            return "ask for less, or ask an administrator"
        names_ = ", ".join(
            f"{d.id}" + (f" ({short(d.holder.container)})" if d.holder.container else "") for d in mine if d.holder
        )
        return f"give one back first: you hold {names_}"

    def _mine(self) -> list[DeviceView]:
        return [d for d in self.snapshot.devices if d.holder and d.holder.uid == self.person.uid]

    def _own_end(self) -> int | None:
        return min((d.holder.frees_at for d in self._mine() if d.holder and d.holder.frees_at), default=None)

    def _changes(self, rule: str) -> str:
        origin = self.person.origins.get(rule)
        return "an administrator" + (f" ({origin}.{rule} in the policy)" if origin else "")

    def _nothing_free(self, count: int) -> Refusal:
        """Say what keeps the devices from the person: the cause of most hope."""
        kinds = {block.kind for block in self.blocks}
        possible = len(self.reachable) >= count
        # Of named devices each counts: the most lasting cause decides.
        order = _KINDS[::-1] if self.request.devices else _KINDS if possible else _LASTING
        kind = next((kind for kind in order if kind in kinds), _KINDS[0])
        blocks = [block for block in self.blocks if block.kind == kind]
        return Refusal(
            kind,
            blocks[0].rule if blocks else "gpu.count",
            self._say(blocks, count),
            _FIX[kind] if possible or kind != "capacity" else f"ask for at most {len(self.reachable)}",
            current=len(self.free),
            requested=str(self.request),
            limit=len(self.reachable),
            who=_who(blocks),
            frees_at=self._forecast(count),
            possible=possible,
        )

    def _say(self, blocks: Sequence[Blocker], count: int) -> str:
        text = f"{len(self.free)} of {_devices(count)} free" if count > 1 else "no suitable GPU is free"
        causes = list(dict.fromkeys(block.text for block in blocks))
        more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""  # noqa: PLR2004 - what fits on a line
        return f"{text}: {'; '.join(causes[:3])}{more}" if causes else text

    def _forecast(self, count: int) -> int | None:
        """Return when enough devices are free, if the ends that matter are known."""
        ends = sorted(
            block.frees_at
            for block in self.blocks
            if block.frees_at is not None and block.kind in {"capacity", "reservation"}
        )
        index = count - len(self.free) - 1
        return ends[index] if 0 <= index < len(ends) else None

    def _note(self, chosen: Sequence[DeviceView]) -> str | None:
        other = [d for d in chosen if self.request.profile not in {None, d.profile}]
        if not other:
            return None
        return f"no {self.request.profile} was free: got {', '.join(f'{d.id} ({d.profile})' for d in other)}"


def _who(blocks: Sequence[Blocker]) -> str | None:
    return ", ".join(dict.fromkeys(block.who for block in blocks if block.who)) or None


def _devices(count: int) -> str:
    return f"{count} GPU device" + ("" if count == 1 else "s")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
