"""The containers of the engine, whose they are and what they use; each is inspected only when it changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote

from ds01.engine import origin
from ds01.engine.api import Engine, NoSuchObjectError
from ds01.monitor import cgroups
from ds01.monitor.model import ContainerSample
from ds01.reconcile.containers import seen_container


class Infrastructure(NamedTuple):
    """What the policy says belongs to the system: prefixes of names, and a label."""

    prefixes: tuple[str, ...] = ()
    label: str = "ds01.protected"

    def claims(self, labels: Mapping[str, str], name: str) -> bool:
        """Whether a container says that it belongs to the system; only of an administrator or nobody it counts."""
        return self.label in labels or (bool(self.prefixes) and name.startswith(self.prefixes))


def infrastructure(tables: Mapping[str, Any]) -> Infrastructure:
    """Return what the tables of a policy say of it."""
    settings = tables.get("monitoring", {})
    known = Infrastructure()
    return Infrastructure(
        tuple(settings.get("infrastructure_containers", known.prefixes)),
        settings.get("infrastructure_label", known.label),
    )


class Containers:
    """Knows the containers from one look to the next."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[str, tuple[tuple[Any, ...], ContainerSample]] = {}
        self._runtime: tuple[Any, str] | None = None

    def look(
        self,
        engine: Engine,
        groups: cgroups.Groups,
        system: Infrastructure,
        is_admin: Callable[[int, str], bool],
    ) -> tuple[ContainerSample, ...]:
        """Return all containers, stopped ones included.

        Args:
            engine: The engine.
            groups: Where the containers' control groups are now.
            system: What belongs to the system.
            is_admin: Whether a person is an administrator: who else says that a container is the system's, errs.

        Raises:
            EngineUnavailableError: The engine does not answer.
        """
        rows = engine.get("/containers/json?all=1")
        known = {}
        for row in rows:
            # A change of any of these makes the inspection old. What it uses is asked of the kernel, each time.
            key = (row.get("State"), tuple(row.get("Names") or ()), system)
            before = self._known.get(row["Id"])
            if before is None or before[0] != key:
                try:
                    inspected = engine.get(f"/containers/{quote(row['Id'])}/json")
                except NoSuchObjectError:
                    continue
                before = key, _sample(inspected, self._default_runtime(engine), system, is_admin)
            known[row["Id"]] = before
        self._known = known
        return tuple(_use(sample, groups) for _, sample in known.values())

    def _default_runtime(self, engine: Engine) -> str:
        # An engine that was restarted has new containers to show, too; asking once a sample would cost more than all.
        if self._runtime is None or self._runtime[0] != len(self._known):
            self._runtime = len(self._known), str(engine.info().get("DefaultRuntime", ""))
        return self._runtime[1]


def container_type(labels: Mapping[str, str]) -> str:
    """Return the type whose lifecycle limits count for a container: what its maker says that it is."""
    given = labels.get(origin.TYPE, "")
    if given in origin.TYPES:
        return given
    return origin.by_marks(labels) or ("docker" if labels.get("ds01.managed") == "true" else "unknown")


def _sample(
    container: Mapping[str, Any],
    runtime: str,
    system: Infrastructure,
    is_admin: Callable[[int, str], bool],
) -> ContainerSample:
    seen = seen_container(container, runtime)
    labels: Mapping[str, str] = (container.get("Config") or {}).get("Labels") or {}
    marked = system.claims(labels, seen.name)
    return ContainerSample(
        id=seen.id,
        name=seen.name,
        uid=seen.uid,
        user=seen.user,
        group=seen.group,
        type=container_type(labels),
        interface=str(labels.get(origin.INTERFACE, "")),
        managed=seen.ours,
        protected=marked and (seen.uid is None or is_admin(seen.uid, seen.user)),
        running=seen.running,
        created=seen.created,
        token=seen.token,
        names=tuple(sorted(seen.names)),
    )


def _use(sample: ContainerSample, groups: cgroups.Groups) -> ContainerSample:
    group = groups.containers.get(sample.id)
    if not sample.running or group is None:
        return sample
    return replace(sample, cpu_us=group.cpu_us, memory=group.memory, io_bytes=group.io_bytes, net_bytes=group.net_bytes)
