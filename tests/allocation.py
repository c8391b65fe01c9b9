"""GPUs, people and requests for tests of the allocator."""

from __future__ import annotations

from typing import Any

from ds01.allocator.model import Booking, DeviceView, Holder, Limits, Person, Snapshot
from ds01.allocator.people import People
from ds01.gpu.model import FULL
from ds01.policy import Policy

GIB = 2**30
HOUR = 3_600_000
NOW = 1_800_000_000_000
MODEL = "NVIDIA A100-SXM4-80GB"


def uuid(gpu: int, index: int, profile: str = "2g.20gb") -> str:
    return f"MIG-{gpu}-{index}-{profile.replace('.', '')}"


def full(gpu: int, **state: Any) -> DeviceView:
    memory = 80 * GIB - GIB // 2  # As real ones, it has a little less than its name says.
    return DeviceView(f"GPU-{gpu}", f"GPU-{gpu}", gpu, None, None, None, None, FULL, memory, 1.0, MODEL, **state)


def mig(gpu: int, index: int, profile: str = "2g.20gb", **state: Any) -> DeviceView:
    compute, memory = int(profile[0]), int(profile[3:].partition("gb")[0])
    ids = (uuid(gpu, index, profile), f"GPU-{gpu}", gpu, index, index, 0, None)
    return DeviceView(*ids, profile, memory * GIB - GIB // 2, compute / 7, MODEL, **state)


def held(person: Person, frees_at: int | None = None, token: str = "t") -> Holder:  # noqa: S107 - of a claim
    return Holder(
        token, person.uid, person.user, person.group, person.limits.priority, "running", f"job._.{person.uid}", frees_at
    )


def person(name: str = "alice", group: str = "student", **limits: Any) -> Person:
    return Person(sum(map(ord, name)), name, group, Limits(**limits), {})


def snapshot(*devices: DeviceView, **others: Any) -> Snapshot:
    return Snapshot(NOW, devices, **others)


def booking(*devices: str, user: str | None = "bob", group: str | None = None, hours: tuple[float, float]) -> Booking:
    start, end = (NOW + int(hour * HOUR) for hour in hours)
    return Booking(1, user, group, start, end, devices)


def lab_policy(**sections: Any) -> People:
    """The limits of a small lab; sections replace those of the same name."""
    policy = {
        "default_group": "student",
        "defaults": {"max_gpus_per_container": 2, "gpu_hold_after_stop": "15m", "max_runtime": "24h"},
        "groups": {
            "student": {"max_mig_instances": 2, "max_gpu_equivalents": 1, "members": ["alice", "bob"]},
            "faculty": {
                "max_gpu_equivalents": 2,
                "allow_full_gpu": True,
                "gpu_hold_after_stop": "0s",
                "priority": 30,
                "members": ["carol"],
                "group_aggregate": {"max_gpu_equivalents": 1.2},
            },
            "guest": {"max_mig_instances": 1, "gpu_hold_after_stop": None, "members": ["gina"]},
        },
    }
    return People(Policy.model_validate({**policy, **sections}).tables)


UIDS = {"alice": 1001, "bob": 1002, "carol": 1003, "gina": 1004}
