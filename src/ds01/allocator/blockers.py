"""Why one device cannot go to one person now."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ds01.allocator.model import DeviceView, Kind, Person, Snapshot
from ds01.gpu.model import FULL, names_of

if TYPE_CHECKING:
    from ds01.allocator.model import Booking
    from ds01.allocator.request import Request

SOON_S = 24 * 3600
"""A device reserved within this time goes only to work that ends before: as long as a container runs by default."""
_COMPUTE_MEMORY = re.compile(r"([0-9]+)g\.([0-9]+)gb")
_MODEL_MEMORY = re.compile(r"([0-9]+) ?GB")


class Blocker(NamedTuple):
    """What keeps a device from somebody, and until when in milliseconds if that is known."""

    kind: Kind
    rule: str
    text: str
    frees_at: int | None = None
    who: str | None = None


def matches(device: DeviceView, request: Request) -> bool:
    """Tell whether a device is what a request asks for, whoever holds it.

    A wanted profile is also met by a larger one, never by a whole GPU. Memory is what the name of the device promises,
    if that is more than it has: of a 2g.20gb, 19.5 GiB can be used, and whoever asks for 20 means it.
    """
    if request.devices:
        return any(names(device, name) for name in request.devices)
    if request.full:
        wanted = device.full
    elif request.profile is not None:
        wanted = device.profile == request.profile or _larger(device.profile, request.profile)
    else:
        wanted = True
    return wanted and max(device.memory_bytes, _nominal_bytes(device.profile, device.model)) >= request.memory_bytes


@cache
def _nominal_bytes(profile: str, model: str) -> int:
    found = _MODEL_MEMORY.search(model) if profile == FULL else _COMPUTE_MEMORY.match(profile)
    return int(found[found.re.groups]) << 30 if found else 0


def names(device: DeviceView, name: str) -> bool:
    """Tell whether a name (index or UUID) means this device. What is gone has left its index to others."""
    wanted = name.lower()
    return wanted in names_of(device) and (device.state != "gone" or wanted == device.uuid.lower())


def _larger(profile: str, wanted: str) -> bool:
    here, there = _COMPUTE_MEMORY.match(profile), _COMPUTE_MEMORY.match(wanted)
    # What follows the size, like +me, is an ability the other does not have.
    if here is None or there is None or not (profile[here.end() :] == wanted[there.end() :] == ""):
        return False
    return all(int(ours) >= int(theirs) for ours, theirs in zip(here.groups(), there.groups(), strict=True))


def divided(snapshot: Snapshot) -> frozenset[str]:
    """Return the UUIDs of GPUs that are divided into MIG devices: such a GPU is no device itself."""
    return frozenset(device.gpu_uuid for device in snapshot.devices if not device.full and device.state != "gone")


def blocker(
    device: DeviceView, request: Request, person: Person, snapshot: Snapshot, parents: frozenset[str]
) -> Blocker | None:
    """Return what keeps a device from a person, the most lasting cause first, or None."""
    if device.full and device.gpu_uuid in parents:
        text = f"GPU {device.id} is divided into MIG devices"
        return Blocker("unhealthy", "gpu.mig", text)
    if device.state != "ok":
        words = {"gone": "no longer exists", "draining": "is being drained", "unhealthy": "is unhealthy"}
        text = f"{device.id} {words[device.state]}" + (f" ({device.reason})" if device.reason else "")
        return Blocker("unhealthy", f"gpu.{device.state}", text, who="an administrator")
    if device.full and not person.limits.allow_full_gpu:
        return Blocker("permission", "allow_full_gpu", f"{device.id} is a full GPU")
    if device.holder is not None:
        holder = device.holder
        # Not in which container: its name is the holder's own business.
        text = f"{holder.user} holds {device.id}"
        return Blocker("capacity", "gpu.lease", text, holder.frees_at, holder.user)
    if device.foreign is not None:
        text = f"{device.id} is used outside of leases"
        return Blocker("capacity", "gpu.foreign", text, who="an administrator")
    if (booking := _booked(device, request, person, snapshot)) is not None:
        when = "now" if booking.starts <= snapshot.now else "soon"
        text = f"{device.id} is reserved for {booking.whose} ({when})"
        return Blocker("reservation", "reservations", text, booking.ends, booking.whose)
    if device.uuid in snapshot.withheld:
        return Blocker("capacity", "gpu.queue", snapshot.withheld[device.uuid])
    return None


def runtime_s(request: Request, person: Person) -> int | None:
    """Return how long a container of this request may run at most, in seconds; None without end."""
    known = [value for value in (request.runtime, person.limits.max_runtime) if value is not None]
    return min(known, default=None)


def _booked(device: DeviceView, request: Request, person: Person, snapshot: Snapshot) -> Booking | None:
    """Return the reservation of somebody else that a grant of this device would run into, the first one."""
    found = None
    for booking in snapshot.bookings:
        if booking.ends <= snapshot.now or device.uuid not in booking.devices or booking.is_for(person):
            continue
        ahead, runtime = booking.starts - snapshot.now, runtime_s(request, person)
        fits = runtime is not None and runtime * 1000 <= ahead
        if ahead > SOON_S * 1000 or (ahead > 0 and fits):
            continue
        if found is None or booking.starts < found.starts:
            found = booking
    return found


def own_booking(device: DeviceView, person: Person, snapshot: Snapshot) -> bool:
    """Tell whether a device is reserved for this person at this moment."""
    return any(
        booking.starts <= snapshot.now < booking.ends and device.uuid in booking.devices and booking.is_for(person)
        for booking in snapshot.bookings
    )


def profiles(snapshot: Snapshot) -> str:
    """Name the kinds of devices there are, for messages."""
    kinds = sorted({device.profile for device in snapshot.devices if device.state != "gone"} - {FULL})
    whole = any(device.full and device.state != "gone" for device in snapshot.devices)
    return ", ".join([*kinds, *(["full GPU"] if whole else [])]) or "none"
