"""Sections about the machine: storage, logins, engine, administrators, messages."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from ds01.policy.fields import Choice, Cpus, Duration, Flag, Size, Whole
from ds01.policy.models.base import Old, Section
from ds01.policy.models.limits import GIB, HOUR, MINUTE, TASKS_MAX
from ds01.policy.text_fields import HostPath, Mode, Name, Text

_REGISTRY = r"[A-Za-z0-9.:_/-]+"
_REGISTRY_TEXT = "a registry like registry.example.org:5000"


class ContainerType(Section):
    """Lifecycle limits of one type of container; the owner's own limits count too, the shorter of both."""

    idle_timeout: Annotated[int | None, Duration(least=MINUTE, nullable=True, null_means="the owner's own limit")] = (
        30 * MINUTE
    )
    """An idle container is stopped after this time, or the owner's `idle_timeout` if that is shorter."""
    max_runtime: Annotated[int | None, Duration(least=MINUTE, nullable=True, null_means="the owner's own limit")] = (
        24 * HOUR
    )
    """A container is stopped after running this long in total, or the owner's `max_runtime` if that is shorter."""
    sigterm_grace: Annotated[int, Duration(least=1)] = 60
    """Time between the request to end and the kill."""


def _type(idle_timeout: str | None, max_runtime: str, sigterm_grace: str) -> ContainerType:
    values = {"idle_timeout": idle_timeout, "max_runtime": max_runtime, "sigterm_grace": sigterm_grace}
    return ContainerType.model_validate(values)


class ContainerTypes(Section):
    """Lifecycle limits of containers that did not come from DS01's own commands.

    They only shorten what the owner has: a type is what the labels of a container say, and anybody may give labels.
    """

    devcontainer: ContainerType = _type(None, "168h", "30s")
    """VS Code Dev Containers."""
    compose: ContainerType = _type("30m", "72h", "45s")
    """docker compose."""
    docker: ContainerType = _type("30m", "48h", "60s")
    """docker run and create."""
    aime: ContainerType = _type("30m", "48h", "60s")
    """AIME's mlc commands."""
    api: ContainerType = _type(None, "24h", "30s")
    """Other clients of the Docker API."""
    unknown: ContainerType = _type("15m", "24h", "30s")
    """Anything else."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """Let a type that is given in part keep its own defaults for the rest."""
        if not isinstance(value, dict):
            return value
        return {name: cls._default(name) | given if isinstance(given, dict) else given for name, given in value.items()}

    @classmethod
    def _default(cls, name: str) -> dict[str, Any]:
        field = cls.model_fields.get(name)
        return field.default.model_dump(mode="json") if field else {}


class BareMetal(Section):
    """Use of the GPUs outside containers."""

    old_names: ClassVar[dict[str, Old]] = {
        "admin_group": Old(moved=("admins", "groups")),
        "state_dir": Old(note="grants are kept below /var/lib/ds01"),
    }

    exempt_users: tuple[Annotated[str, Name("user")], ...] = ()
    """People whose logins are not capped, and who may use the GPUs of the host itself."""
    exempt_groups: tuple[Annotated[str, Name("unix_group")], ...] = ("sudo",)
    """The same for Unix groups. Whoever may become root is not held by it anyway."""
    close_gpus: Annotated[bool, Flag()] = True
    """Whether the GPUs of the host are closed to everybody else's logins, cron and at."""
    default_grant_duration: Annotated[int, Duration(least=MINUTE)] = 24 * HOUR
    """How long a grant lasts when no time is given."""


class Admins(Section):
    """Who administers DS01. Root always does."""

    groups: tuple[Annotated[str, Name("unix_group")], ...] = ("ds01-admin",)
    """Unix groups of administrators."""
    users: tuple[Annotated[str, Name("user")], ...] = ()
    """Single administrators."""


class Directory(Section):
    """A shared directory on the host."""

    owner: Annotated[str, Name("user")] = "root"
    """Owner."""
    group: Annotated[str, Name("unix_group")] = "ds01-users"
    """Group."""
    mode: Annotated[int, Mode()] = 0o2770
    """Mode; 2 in front keeps the group on new files (setgid)."""
    acl: tuple[
        Annotated[str, Text(r"(user|group|u|g):[^:,\s]+:[r-][w-][xX-]", 'an ACL entry like "group:ds01-admin:rwx"')],
        ...,
    ] = ()
    """Further rights, also inherited by new files."""


def _directories() -> dict[str, Directory]:
    """Return the directories of a lab that names none."""
    shared = {"mode": "2770", "acl": ["group:ds01-users:rwx"]}
    published = {"mode": "2750", "acl": ["group:ds01-admin:rwx"]}
    directories = {"/collaborative": shared, "/readonly": published, "/data": published}
    return {path: Directory.model_validate(values) for path, values in directories.items()}


class Storage(Section):
    """Data directories and quotas."""

    home_root: Annotated[str, HostPath()] = "/home"
    """Where home directories are."""
    scratch_root: Annotated[str, HostPath()] = "/scratch"
    """Where each person gets a scratch directory."""
    directories: dict[str, Directory] = Field(default_factory=_directories)
    """Shared directories by absolute path. Naming any replaces this list."""
    quotas: Annotated[str, Choice("auto", "required", "off")] = "auto"
    """Project quotas: where the filesystem can, an error where it cannot, or none."""
    nosuid_nodev: Annotated[bool, Flag()] = True
    """Mount home and scratch so that no setuid program or device file there works."""


class Logins(Section):
    """Limits of a person's login sessions on the host (ssh, terminals, VS Code server), outside containers."""

    max_cpus: Annotated[float | None, Cpus(nullable=True)] = 4.0
    """CPUs."""
    memory_max: Annotated[int | None, Size(nullable=True)] = 16 * GIB
    """Memory."""
    memory_high: Annotated[int | None, Size(nullable=True, null_means="no throttling")] = None
    """Memory from which the kernel slows down and reclaims."""
    tasks_max: Annotated[int | None, Whole(1, TASKS_MAX, nullable=True)] = 4_096
    """Processes and threads."""


class Users(Section):
    """Accounts made from people files."""

    offboard_grace: Annotated[int, Duration()] = 90 * 24 * HOUR
    """Time between disabling the account of a departed person and its removal."""
    archive_directory: Annotated[str, HostPath()] = "/var/lib/ds01/archive"
    """Where homes and scratch directories of departed people are archived."""


class Images(Section):
    """Container images."""

    registries: tuple[Annotated[str, Text(_REGISTRY, _REGISTRY_TEXT)], ...] = ()
    """Registries people may pull from and push to, with a path if only a part of one: docker.io, ghcr.io/group.

    None named: any but those on this server itself.
    """
    max_upload: Annotated[int | None, Size(least=2**20, nullable=True)] = 20 * GIB
    """Largest image or build context that somebody may send."""
    remove_unused_after: Annotated[int | None, Duration(nullable=True, null_means="never")] = None
    """Images nobody used for this time may be removed."""


class Monitoring(Section):
    """How the machine is watched, and what belongs to the system."""

    sample_interval: Annotated[int, Duration(least=1)] = 15
    """Time between two looks at devices, processes and containers."""
    metrics_port: Annotated[int | None, Whole(1, 65_535, nullable=True, null_means="no metrics")] = 9101
    """Port on 127.0.0.1 where Prometheus reads the metrics."""
    dcgm_exporter: Annotated[
        str | None, Text(r"http://[^\s/]+(/\S*)?", "an address like http://127.0.0.1:9400/metrics", nullable=True)
    ] = None
    """Address of a DCGM exporter: on A100, only it can tell how busy a MIG instance is."""
    infrastructure_containers: tuple[Annotated[str, Text()], ...] = ()
    """Prefixes of names of containers that belong to the system, if an administrator's or nobody's."""
    infrastructure_label: Annotated[str, Text()] = "ds01.protected"
    """Label of containers that belong to the system; only administrators may set it."""


class Unmanaged(Section):
    """Limits of everything the engine starts that has no owner."""

    max_cpus: Annotated[float | None, Cpus(nullable=True)] = 2.0
    """CPUs."""
    memory_max: Annotated[int | None, Size(nullable=True)] = 4 * GIB
    """Memory."""
    tasks_max: Annotated[int | None, Whole(1, TASKS_MAX, nullable=True)] = 1_024
    """Processes and threads."""


class Enforcement(Section):
    """How limits reach the kernel."""

    aggregate_limits: Annotated[bool, Flag()] = True
    """Whether each person is limited over all containers; false leaves only the limits of single containers."""
    cgroup_driver: Annotated[str, Choice("systemd")] = "systemd"
    """The engine's cgroup driver; slices need systemd."""
    unmanaged: Unmanaged = Unmanaged()
    """Limits of what has no owner."""


class Engine(Section):
    """The container engine."""

    log_max_size: Annotated[int, Size(least=2**16)] = 10 * 2**20
    """A container's log is rotated at this size."""
    log_max_file: Annotated[int, Whole(1, 1_000)] = 3
    """Rotated log files kept per container."""
    registry_mirrors: tuple[
        Annotated[str, Text(r"https?://" + _REGISTRY, "an address like https://mirror.example.org")], ...
    ] = ()
    """Mirrors of Docker Hub."""
    insecure_registries: tuple[Annotated[str, Text(_REGISTRY, _REGISTRY_TEXT)], ...] = ()
    """Registries used without TLS; only on a trusted network."""
