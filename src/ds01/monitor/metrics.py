"""The page that Prometheus reads. Names that dashboards of the earlier DS01 know are kept; docs/monitoring.md has all.

What is not known has no line: a missing value is a gap in a graph, a zero would be a lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

import ds01
from ds01.gpu.watch import GpuEvent
from ds01.ledger.rows import LiveLease
from ds01.monitor.model import ContainerSample, Sample

_LIFECYCLE: Final = {
    ("lifecycle.stop", "idle_timeout"): "idle_kill",
    ("lifecycle.stop", "max_runtime"): "runtime_kill",
    ("limit.hit", "memory"): "oom_kill",
    ("lifecycle.warn", "idle_timeout"): "gpu_warning",
    ("lifecycle.warn", "max_runtime"): "container_warning",
    ("limit.near", "memory"): "memory_warning",
    ("gpu.foreign", "occupancy"): "bare_metal_warning",
}


@dataclass(frozen=True)
class Books:
    """What is shown beside the sample."""

    leases: tuple[LiveLease, ...] = ()
    members: dict[str, str] = field(default_factory=dict)
    """Group of each person that the policy names."""
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Events of the last 24 hours by type and rule."""
    reported: tuple[GpuEvent, ...] = ()
    disk_bytes: dict[str, int] = field(default_factory=dict)
    """What our own files take, by kind."""
    people_bytes: dict[str, int] = field(default_factory=dict)
    """What people's containers, volumes and images take."""


def page(sample: Sample, books: Books) -> bytes:
    """Return the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Page(sample, books))
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, sample: Sample, books: Books) -> None:
        self._sample = sample
        self._books = books
        self._containers = {container.id: container for container in sample.containers or ()}

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield from self._monitor()
        yield from self._allocation()
        yield from self._containers_and_people()
        yield from self._devices()
        yield from self._processes()
        yield from self._unmanaged()
        yield from self._events()

    def _monitor(self) -> Iterator[Metric]:
        sample = self._sample
        yield _gauge(
            "ds01_exporter_info", "Version of the monitor", ("version", "type"), [((ds01.__version__, "monitor"), 1)]
        )
        yield _gauge(
            "ds01_monitor_sample_timestamp_seconds", "When the values were sampled (UTC)", (), [((), sample.at / 1000)]
        )
        yield _gauge(
            "ds01_monitor_sample_duration_seconds", "How long sampling took", (), [((), sample.took_ms / 1000)]
        )
        yield _gauge(
            "ds01_monitor_problems",
            "What could not be looked at; the journal of ds01-monitor names it",
            (),
            [((), len(sample.problems))],
        )
        yield _gauge(
            "ds01_state_disk_bytes",
            "Disk space of DS01's own files",
            ("type",),
            [((kind,), size) for kind, size in self._books.disk_bytes.items()],
        )

    def _allocation(self) -> Iterator[Metric]:
        devices = {device.uuid: device for device in self._sample.devices or ()}
        slots, weights = [], []
        users: Counter[str] = Counter()
        equivalents: dict[str, float] = {}
        for lease in self._books.leases:
            device = devices.get(lease.device)
            if device is None:
                continue
            container = self._containers.get(lease.container_id or "")
            interface = container.interface if container else ""
            slots.append(((device.id, lease.container_name or "", lease.user, interface, device.profile), 1))
            weights.append(((device.id, lease.user, interface, device.profile), device.weight))
            users[lease.user] += 1
            equivalents[lease.user] = equivalents.get(lease.user, 0.0) + device.weight
        yield _gauge(
            "ds01_gpu_allocated",
            "Device held by a container",
            ("gpu_slot", "container", "user", "interface", "profile"),
            slots,
        )
        yield _gauge(
            "ds01_gpu_equivalents", "Part of a GPU that is held", ("gpu_slot", "user", "interface", "profile"), weights
        )
        yield _gauge("ds01_user_gpus_allocated", "Devices a person holds", ("user",), _labelled(users))
        yield _gauge("ds01_user_gpu_equivalents", "Parts of GPUs a person holds", ("user",), _labelled(equivalents))
        if self._sample.devices is not None:
            total = [
                ((kind,), value)
                for kind, value in (
                    ("devices", len(devices)),
                    ("equivalents", sum(device.weight for device in devices.values())),
                )
            ]
            yield _gauge("ds01_gpu_capacity", "What there is to hold", ("unit",), total)

    def _containers_and_people(self) -> Iterator[Metric]:
        if self._sample.containers is not None:
            states = Counter(
                ("running" if one.running else "stopped", one.interface or one.type)
                for one in self._containers.values()
            )
            yield _gauge("ds01_containers_total", "Containers", ("status", "interface"), _labelled(states))
            owners = Counter(one.user for one in self._containers.values() if one.user)
            yield _gauge("ds01_user_containers_count", "Containers of a person", ("user",), _labelled(owners))
        groups = Counter(self._books.members.values())
        yield _gauge("ds01_group_members_total", "People the policy names in a group", ("group",), _labelled(groups))
        yield _gauge(
            "ds01_user_group_info",
            "Group of a person",
            ("user", "group"),
            [(pair, 1) for pair in sorted(self._books.members.items())],
        )
        cpu, memory = "CPU time of a person's containers", "Memory of a person's containers"
        slices = [((one.user, one.group), one) for one in self._sample.slices]
        yield _counter(
            "ds01_user_cpu_usage_seconds",
            cpu,
            ("user", "group"),
            [(key, one.cpu_us / 1e6) for key, one in slices if one.cpu_us is not None],
        )
        yield _gauge(
            "ds01_user_memory_current_bytes",
            memory,
            ("user", "group"),
            [(key, one.memory) for key, one in slices if one.memory is not None],
        )
        yield _gauge(
            "ds01_user_docker_disk_bytes",
            "Disk space of a person's own containers, volumes and images, as it was measured last",
            ("user",),
            _labelled(self._books.people_bytes),
        )
        yield _gauge(
            "ds01_ssh_sessions_active",
            "Logins of a person over the network",
            ("user",),
            [((user,), count) for user, count in self._sample.sessions],
        )
        yield _gauge(
            "ds01_ssh_sessions_total",
            "Logins over the network",
            (),
            [((), sum(count for _, count in self._sample.sessions))],
        )

    def _devices(self) -> Iterator[Metric]:
        gpus, devices = self._sample.gpus or (), self._sample.devices or ()
        whole = [one for one in devices if one.gi_id is None]
        parts = [one for one in devices if one.gi_id is not None]
        yield _gauge(
            "ds01_gpu_slot_info",
            "A whole GPU",
            ("gpu", "slot", "gpu_uuid", "mig_enabled"),
            [((str(one.index), str(one.index), one.uuid, str(one.mig).lower()), 1) for one in gpus],
        )
        yield _gauge(
            "ds01_mig_slot_info",
            "A MIG device",
            ("gpu", "gpu_i_id", "slot", "mig_uuid"),
            [((str(one.gpu_index), str(one.gi_id), one.id, one.uuid), 1) for one in parts],
        )
        if self._sample.devices is not None:
            mapped = [
                (("mapped",), len(parts)),
                (
                    ("unmapped",),
                    sum(1 for gpu in gpus if gpu.mig and not any(part.gpu_uuid == gpu.uuid for part in parts)),
                ),
            ]
            yield _gauge(
                "ds01_mig_mapping_status", "MIG devices known, and GPUs in MIG mode without any", ("status",), mapped
            )
        label = ("gpu", "slot", "uuid", "profile")
        named = [((str(one.gpu_index), one.id, one.uuid, one.profile), one) for one in (*whole, *parts)]
        yield _gauge(
            "ds01_device_utilization_ratio",
            "Part of the time a device did anything; no line where nothing can tell",
            (*label, "source"),
            [((*key, one.busy_source), one.busy / 100) for key, one in named if one.busy is not None],
        )
        yield _gauge(
            "ds01_device_memory_used_bytes",
            "Memory of a device in use",
            label,
            [(key, one.memory_used) for key, one in named if one.memory_used is not None],
        )
        yield _gauge(
            "ds01_device_memory_total_bytes",
            "Memory of a device",
            label,
            [(key, one.memory_total) for key, one in named if one.memory_total is not None],
        )
        yield _gauge(
            "ds01_device_unexplained_memory_bytes",
            "Memory in use that no process accounts for",
            label,
            [(key, one.unexplained) for key, one in named if one.unexplained is not None],
        )
        yield _gauge(
            "ds01_device_processes",
            "Processes on a device",
            label,
            [(key, len(one.processes)) for key, one in named if one.processes is not None],
        )
        card = ("gpu", "uuid", "model")
        cards = [((str(one.index), one.uuid, one.model), one) for one in gpus]
        yield _gauge(
            "ds01_gpu_state",
            "1 for the state a GPU is in: ok, degraded, unhealthy",
            (*card, "state"),
            [
                ((*key, state), int(one.state == state))
                for key, one in cards
                for state in ("ok", "degraded", "unhealthy")
            ],
        )
        yield _gauge(
            "ds01_gpu_power_watts",
            "Power of a GPU",
            card,
            [(key, one.power_mw / 1000) for key, one in cards if one.power_mw is not None],
        )
        yield _counter(
            "ds01_gpu_energy_joules",
            "Energy of a GPU since its driver was loaded",
            card,
            [(key, one.energy_mj / 1000) for key, one in cards if one.energy_mj is not None],
        )
        yield _gauge(
            "ds01_gpu_temperature_celsius",
            "Temperature of a GPU",
            card,
            [(key, one.temperature_c) for key, one in cards if one.temperature_c is not None],
        )
        xids = Counter(
            (one.gpu_uuid, "" if one.gi_id is None else str(one.gi_id), str(one.xid))
            for one in self._books.reported
            if one.xid is not None
        )
        yield _counter(
            "ds01_gpu_xid_events",
            "Xid errors since the boot; gpu_i_id where the driver told the instance",
            ("uuid", "gpu_i_id", "xid"),
            _labelled(xids),
        )

    def _processes(self) -> Iterator[Metric]:
        memory: Counter[tuple[str, ...]] = Counter()
        count: Counter[tuple[str, ...]] = Counter()
        for device in self._sample.devices or ():
            for process in device.processes or ():
                key = (device.id, process.kind, process.user)
                count[key] += 1
                memory[key] += process.memory or 0
        label = ("slot", "kind", "user")
        yield _gauge(
            "ds01_gpu_processes",
            "GPU processes by whose they are: container, user, system, unknown",
            label,
            _labelled(count),
        )
        yield _gauge(
            "ds01_gpu_process_memory_bytes", "GPU memory they hold, as far as it is known", label, _labelled(memory)
        )

    def _unmanaged(self) -> Iterator[Metric]:
        if self._sample.containers is None:
            return
        used = self._used()
        found = [one for one in self._containers.values() if one.token is None and not one.protected]
        found = [one for one in found if one.names or used[one.id]]
        rows = [
            (
                (one.name, one.user, str(len(one.names) or used[one.id]), _access(one), str(one.running).lower()),
                1,
            )
            for one in found
        ]
        yield _gauge(
            "ds01_unmanaged_gpu_container",
            "A container that reaches GPUs without a lease",
            ("container", "user", "gpu_count", "access_type", "running"),
            rows,
        )
        yield _gauge("ds01_unmanaged_gpu_count", "Such containers", (), [((), len(found))])
        yield _gauge("ds01_unmanaged_gpu_running", "Those that run", (), [((), sum(one.running for one in found))])
        yield _gauge(
            "ds01_unmanaged_gpu_all_access",
            "Those that reach all GPUs",
            (),
            [((), sum(_access(one) == "all" for one in found))],
        )

    def _used(self) -> Counter[str]:
        """Return on how many devices each container has a process, whatever way it came there."""
        return Counter(
            container
            for device in self._sample.devices or ()
            for container in {process.container for process in device.processes or () if process.container}
        )

    def _events(self) -> Iterator[Metric]:
        kinds: Counter[str] = Counter()
        actions = Counter(dict.fromkeys(_LIFECYCLE.values(), 0))
        for (kind, rule), count in self._books.events.items():
            kinds[kind] += count
            if (kind, rule) in _LIFECYCLE:
                actions[_LIFECYCLE[kind, rule]] += count
        yield _gauge("ds01_events_24h_total", "Events of the last 24 hours", ("event_type",), _labelled(kinds))
        yield _gauge(
            "ds01_lifecycle_events_total",
            "What was ended or warned about in the last 24 hours",
            ("action",),
            _labelled(actions),
        )


def _access(container: ContainerSample) -> str:
    # What asked for no GPU and has a process on one came there otherwise: privileged, or with nodes of its own making.
    return "all" if "all" in container.names else "device" if container.names else "other"


def _labelled(counter: Mapping[Any, float]) -> list[tuple[tuple[str, ...], float]]:
    return [(key if isinstance(key, tuple) else (key,), value) for key, value in sorted(counter.items())]


def _gauge(name: str, text: str, labels: Iterable[str], rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    return _fill(GaugeMetricFamily(name, text, labels=tuple(labels)), rows)


def _counter(name: str, text: str, labels: Iterable[str], rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    return _fill(CounterMetricFamily(name, text, labels=tuple(labels)), rows)


def _fill(family: Any, rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    for labels, value in rows:
        family.add_metric(labels, value)
    filled: Metric = family
    return filled
