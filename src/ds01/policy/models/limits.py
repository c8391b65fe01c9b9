"""Limits: what one person and one container may use."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ds01.policy.fields import Cpus, Duration, Flag, Number, Size, Whole
from ds01.policy.models.base import Derived, Old, Section

# Docker refuses containers below 6 MiB.
CONTAINER_MEMORY_MIN = 6 * 2**20
# A slower disk would make every container look broken.
IO_MIN = 2**20
# Linux: PID_MAX_LIMIT on 64 bits.
TASKS_MAX = 4_194_304
MINUTE = 60
HOUR = 3_600
GIB = 2**30

_DISPLAY_ONLY = "it was only displayed; write storage.home, storage.scratch or storage.docker"
_OTHER_PROGRAM = "it belongs to the job service"


class LifecyclePolicies(Section):
    """When an unused container is noticed, warned about and stopped. Groups and overrides may differ field by field."""

    old_names: ClassVar[dict[str, Old]] = {
        "gpu_hold_after_manual_stop": Old(note="nothing read it; gpu_hold_after_stop decides"),
        "gpu_hold_after_manual_stop_m": Old(note="nothing read it; gpu_hold_after_stop decides"),
    }

    gpu_idle_threshold: Annotated[float | None, Number(0, 100, nullable=True, null_means="signal unused")] = 5.0
    """GPU use in percent below which a GPU counts as idle."""
    cpu_idle_threshold: Annotated[float | None, Number(0, 100_000, nullable=True, null_means="signal unused")] = 2.0
    """CPU use of the container in percent of one CPU below which it counts as idle."""
    network_idle_threshold: Annotated[int | None, Size(plain=True, nullable=True, null_means="signal unused")] = 2**20
    """Network traffic between two looks (see `monitoring.sample_interval`) below which the container counts as idle."""
    idle_detection_window: Annotated[int, Whole(1, 1_000)] = 3
    """Consecutive idle looks before a container counts as idle."""
    grace_period: Annotated[int, Duration()] = 30 * MINUTE
    """Time after a start in which nothing counts as idle."""
    idle_warn_at: tuple[Annotated[float, Number(0, 1)], ...] = (0.8, 0.95)
    """Parts of `idle_timeout` at which the owner is warned."""
    runtime_warn_at: tuple[Annotated[float, Number(0, 1)], ...] = (0.75, 0.9)
    """Parts of `max_runtime` at which the owner is warned."""
    high_demand_threshold: Annotated[float | None, Number(0, 1, nullable=True, null_means="never")] = 0.8
    """Part of all GPU devices in use from which demand counts as high."""
    high_demand_idle_reduction: Annotated[float, Number(0, 1)] = 0.5
    """Factor on `idle_timeout` while demand is high."""
    keepalive_max_duration: Annotated[int | None, Duration(nullable=True)] = 24 * HOUR
    """How long in all an owner may keep an idle container by asking for it (`ds01 container keep`)."""
    extend_max_duration: Annotated[int | None, Duration(nullable=True)] = 24 * HOUR
    """By how much in all an owner may extend the `max_runtime` of a container (`ds01 container extend`)."""
    sigterm_grace: Annotated[int, Duration(least=1)] = 60
    """Time between the request to end and the kill when a container is stopped."""
    created_container_timeout: Annotated[int | None, Duration(nullable=True, null_means="never removed")] = 30 * MINUTE
    """A container that was created but never started is removed after this time."""
    rehearse: Annotated[bool, Flag()] = False
    """Only say what would be stopped or removed by these rules: for the first weeks."""


class StorageLimits(Section):
    """Disk space of one person."""

    home: Annotated[int | None, Size(nullable=True)] = None
    """Quota of the home directory."""
    scratch: Annotated[int | None, Size(nullable=True)] = None
    """Quota of the directory below the scratch root."""
    docker: Annotated[int | None, Size(nullable=True)] = None
    """Space of a person's own images, containers, volumes and their logs together; when it is used up, nothing new."""
    tmp: Annotated[int | None, Size(nullable=True, null_means="no separate /tmp")] = None
    """Size of a memory-backed /tmp in each container. Takes effect with the gateway."""


_PER_CONTAINER = "{} x max_containers_per_user"


class Aggregate(Section):
    """Limits of one person over all containers, enforced by the kernel on the person's slice."""

    old_names: ClassVar[dict[str, Old]] = {
        "cpu_quota": Old(to="max_cpus"),
        "gpu_limit": Old(moved=("..", "max_gpu_equivalents")),
    }

    max_cpus: Annotated[float | None, Cpus(nullable=True), Derived(_PER_CONTAINER.format("max_cpus"))] = None
    """CPUs."""
    memory_max: Annotated[int | None, Size(nullable=True), Derived(_PER_CONTAINER.format("memory"))] = None
    """Memory; beyond it the kernel ends processes (exit code 137)."""
    memory_high: Annotated[int | None, Size(nullable=True, null_means="no throttling")] = None
    """Memory from which the kernel slows down and reclaims; at most memory_max."""
    swap_max: Annotated[
        int | None, Size(least=0, nullable=True), Derived("(memory_swap - memory) x max_containers_per_user")
    ] = None
    """Swap."""
    tasks_max: Annotated[
        int | None,
        Whole(1, TASKS_MAX * 64, nullable=True),
        Derived("pids_limit x max_containers_per_user, at most max_tasks"),
    ] = None
    """Processes and threads."""
    io_read_bps: Annotated[
        int | None, Size(least=IO_MIN, plain=True, nullable=True), Derived(_PER_CONTAINER.format("io_read_bps"))
    ] = None
    """Bytes read from disks per second."""
    io_write_bps: Annotated[
        int | None, Size(least=IO_MIN, plain=True, nullable=True), Derived(_PER_CONTAINER.format("io_write_bps"))
    ] = None
    """Bytes written to disks per second."""


class GroupAggregate(Section):
    """Limits of a group as a whole, over all its members."""

    max_gpu_equivalents: Annotated[float | None, Number(0, 4_096, nullable=True, unlimited=True)] = None
    """Sum of GPU weights that all members may hold together."""
    max_cpus: Annotated[float | None, Cpus(nullable=True)] = None
    """CPUs."""
    memory_max: Annotated[int | None, Size(nullable=True)] = None
    """Memory."""
    tasks_max: Annotated[int | None, Whole(1, TASKS_MAX * 64, nullable=True), Derived("max_tasks")] = None
    """Processes and threads."""


class Limits(Section):
    """Limits. Each is looked up on its own: the user's override, then the group, then `defaults`."""

    old_names: ClassVar[dict[str, Old]] = {
        "max_gpu_slots": Old(to="max_gpu_equivalents"),
        "max_gpus_per_user": Old(to="max_gpu_equivalents"),
        "max_gpu_slots_per_container": Old(to="max_gpus_per_container"),
        "max_mig_per_container": Old(to="max_gpus_per_container"),
        "cpus": Old(to="max_cpus"),
        "storage_tmp": Old(to="storage.tmp"),
        "storage_workspace": Old(note=_DISPLAY_ONLY),
        "storage_data": Old(note=_DISPLAY_ONLY),
        "gpu_memory": Old(note="GPU memory is divided by MIG profiles"),
        "ulimit_nofile": Old(note="containers get the engine's limit of open files"),
        "max_concurrent_jobs": Old(note=_OTHER_PROGRAM),
        "max_daily_submissions": Old(note=_OTHER_PROGRAM),
        "max_result_size_mb": Old(note=_OTHER_PROGRAM),
    }

    max_mig_instances: Annotated[int | None, Whole(0, 4_096, nullable=True, unlimited=True)] = None
    """GPU devices a person may hold at once: MIG instances or whole GPUs."""
    max_gpu_equivalents: Annotated[float | None, Number(0, 4_096, nullable=True, unlimited=True)] = None
    """Sum of GPU weights a person may hold: a whole GPU is 1, a MIG instance its compute slices / 7."""
    max_gpus_per_container: Annotated[int | None, Whole(0, 4_096, nullable=True, unlimited=True)] = 1
    """GPU devices in one container."""
    allow_full_gpu: Annotated[bool, Flag()] = False
    """Whether a whole GPU (not a MIG instance) may be used."""
    max_cpus: Annotated[float | None, Cpus(nullable=True)] = 4.0
    """CPUs of one container.

    Counts in the totals of `aggregate`; for the single container it takes effect with the gateway.
    """
    memory: Annotated[int | None, Size(least=CONTAINER_MEMORY_MIN, nullable=True)] = 16 * GIB
    """Memory of one container.

    Counts in the totals of `aggregate`; for the single container it takes effect with the gateway.
    """
    memory_swap: Annotated[int | None, Size(least=CONTAINER_MEMORY_MIN, nullable=True), Derived("memory")] = None
    """Memory and swap of one container together; equal to `memory` means no swap. Counts as `memory` does."""
    shm_size: Annotated[int, Size(least=2**16)] = 8 * GIB
    """Size of /dev/shm in one container; it counts as memory when used. Takes effect with the gateway."""
    pids_limit: Annotated[int | None, Whole(1, TASKS_MAX, nullable=True)] = 4_096
    """Processes and threads in one container.

    Counts in the totals of `aggregate`; for the single container it takes effect with the gateway.
    """
    io_read_bps: Annotated[int | None, Size(least=IO_MIN, plain=True, nullable=True)] = None
    """Bytes one container may read from disks per second.

    Counts in the totals of `aggregate`; for the single container it takes effect with the gateway.
    """
    io_write_bps: Annotated[int | None, Size(least=IO_MIN, plain=True, nullable=True)] = None
    """Bytes one container may write to disks per second.

    Counts in the totals of `aggregate`; for the single container it takes effect with the gateway.
    """
    max_containers_per_user: Annotated[int | None, Whole(0, 10_000, nullable=True)] = 3
    """Containers one person may have.

    Counts in the totals of `aggregate`; refusing one more takes effect with the gateway.
    """
    max_tasks: Annotated[int | None, Whole(1, TASKS_MAX * 64, nullable=True)] = None
    """Processes and threads of the whole group; also the most that one person's default can be."""
    priority: Annotated[int, Whole(1, 100)] = 10
    """Weight where CPUs and disks are short, 1 to 100; an override that does not set it has 100."""
    idle_timeout: Annotated[int | None, Duration(least=MINUTE, nullable=True, null_means="never stopped")] = 30 * MINUTE
    """An idle container is stopped after this time."""
    max_runtime: Annotated[int | None, Duration(least=MINUTE, nullable=True)] = 24 * HOUR
    """A container is stopped after running this long in total."""
    gpu_hold_after_stop: Annotated[int | None, Duration(nullable=True, null_means="kept for ever")] = 15 * MINUTE
    """A stopped container keeps its GPUs this long; 0s gives them back at once."""
    container_hold_after_stop: Annotated[int | None, Duration(nullable=True, null_means="never removed")] = 30 * MINUTE
    """A stopped container is removed after this time."""
    storage: StorageLimits = StorageLimits()
    """Disk space."""
    aggregate: Aggregate = Aggregate()
    """Limits over all containers of the person."""
    policies: LifecyclePolicies = LifecyclePolicies()
    """Differences from the lifecycle rules in `policies` at the top of the file."""
