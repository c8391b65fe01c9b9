"""Look at a host before anything is changed, and say everything that stands in the way at once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ..engine import group, package, settings, units
from ..engine.api import Engine, EngineUnavailableError
from ..engine.apply import EngineSetup, Wish
from ..engine.errors import EngineError
from . import gpus, system
from .containers import Effect, effects
from .findings import Finding, condition, must, refusal, warning
from .gateway import GatewaySetup
from .lease import Holder, other
from .retire import Retirement
from .traces import Traces

SUPPORTED: Final[dict[str, tuple[str, ...]]] = {"debian": ("12", "13"), "ubuntu": ("24.04",)}
PYTHON_LEAST: Final = (3, 11)
# What the oldest supported system has, Debian 12.
SYSTEMD_LEAST: Final = 252
CONTROLLERS: Final = frozenset({"cpu", "memory", "pids", "io"})
OTHER_RUN: Final = "other-run"
GIB: Final = 1 << 30
# What an installation itself needs, with room for packages and one more version of the runtime.
SPACE: Final[dict[str, int]] = {"/etc": 16 << 20, "/opt": 512 << 20, "/var/lib": GIB}
INODES_LEAST: Final = 20_000
_STORAGE: Final = frozenset({"overlay2", "overlayfs", "btrfs", "zfs"})
_CDI_FULL: Final = (26,)


@dataclasses.dataclass(frozen=True)
class Question:
    """What the deployment is going to need.

    Attributes:
        allow_cgroup_v1: Whether a host that cannot enforce every limit will do (a lab).
        unix_groups: Groups of the directory service that the policy maps to its own.
        admin_groups: Groups of administrators.
        members: Group of each person that the policy lists.
        group_of: Gives the group that a login will have.
        accounts: People for whom accounts are made.
        wish: Settings of the engine.
        gpu_allocation: How the policy divides GPUs; None to not look at them.
        me: This deployment, None to not look for others.
        alive: Deployments that run on the same controller.
    """

    allow_cgroup_v1: bool = False
    unix_groups: Collection[str] = ()
    admin_groups: Collection[str] = ()
    members: Mapping[str, str] = dataclasses.field(default_factory=dict)
    group_of: Callable[[str], str] | None = None
    accounts: Collection[str] = ()
    wish: Wish = dataclasses.field(default_factory=Wish)
    gpu_allocation: Mapping[str, Any] | None = None
    me: Holder | None = None
    alive: Collection[str] = ()


@dataclasses.dataclass
class Report:
    """What was found: facts for the roles, and findings for people."""

    facts: dict[str, Any]
    findings: list[Finding]

    def refusals(self, accepted: Collection[str]) -> list[Finding]:
        """Return the findings that stop a deployment."""
        return [
            finding
            for finding in self.findings
            if finding.refuses and not (finding.acceptable and finding.id in accepted)
        ]


def look(question: Question) -> Report:
    """Look at this host. Changes nothing."""
    info, containers = _engine_state()
    traces = Traces()
    restarts, engine_findings = _engine_plan(question, traces)
    moves = bool(GatewaySetup().moves())
    seen = [effects(container, info, restarts=restarts or moves, moves=moves) for container in containers]
    nvidia = gpus.survey()
    findings = [
        *_platform(question),
        *_space(),
        *_engine(info),
        *engine_findings,
        *_names(question),
        *_containers(seen),
        *_predecessor(question, traces),
        *(gpus.findings(nvidia, question.gpu_allocation) if question.gpu_allocation is not None else ()),
        *(others(question.me, question.alive) if question.me else ()),
    ]
    name, version = system.operating_system()
    facts = {
        "os": f"{name} {version}",
        "python": "{}.{}".format(*system.python_version()),
        "machine": system.machine(),
        "systemd": system.systemd_version(),
        "cgroup": system.cgroup_version(),
        "engine": {
            "flavour": package.flavour(),
            "missing_packages": package.missing((name, version)),
            "missing_builders": package.missing_builders(),
            "version": str(info.get("ServerVersion", "")) or package.version(),
            "storage": info.get("Driver"),
            "data": info.get("DockerRootDir"),
            "cgroup_driver": info.get("CgroupDriver"),
            "live_restore": info.get("LiveRestoreEnabled"),
        },
        "containers": seen,
        "nvidia": nvidia.facts(),
        "predecessor": {
            "present": traces.present(),
            "configuration": [str(path) for path in traces.configuration()],
            "drop_ins": _going(traces),
        },
    }
    return Report(facts, findings)


def _engine_state() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if not units.is_active():
        return {}, []
    engine = Engine()
    try:
        return engine.info(), engine.containers()
    except EngineUnavailableError:
        return {}, []


def _platform(question: Question) -> Iterable[Finding]:
    name, version = system.operating_system()
    if version not in SUPPORTED.get(name, ()):
        known = "Debian 12 or 13, Ubuntu 24.04"
        yield refusal("os", "/etc/os-release", f"{name} {version}".strip() or "unknown", known, "install one of these")
    python = system.python_version()
    if python < PYTHON_LEAST:
        found, least = ".".join(map(str, python)), ".".join(map(str, PYTHON_LEAST))
        fix = "let Ansible use the system's own Python: take ansible_python_interpreter out of the inventory"
        yield refusal("python", "python3", found, f"{least} or newer", fix)
    systemd = system.systemd_version()
    if systemd < SYSTEMD_LEAST:
        value = str(systemd) if systemd else "not what started this machine"
        yield refusal("systemd", "systemd", value, f"{SYSTEMD_LEAST} or newer as PID 1", "use a supported system")
    if system.cgroup_version() == "v2":
        missing = CONTROLLERS - system.cgroup_controllers()
        if missing:
            fix = "take cgroup_disable= out of the kernel command line and reboot"
            value = f"without {' '.join(sorted(missing))}"
            yield refusal("controllers", "/sys/fs/cgroup", value, "all of cpu io memory pids", fix)
    elif not question.allow_cgroup_v1:
        fix = (
            "boot with systemd.unified_cgroup_hierarchy=1 (take other cgroup options out of the kernel command line); "
        )
        fix += "limits on memory pressure and disk traffic do not exist in v1. A lab can set ds01_allow_cgroup_v1: true"
        yield refusal("cgroup", "/sys/fs/cgroup", "cgroup v1 or hybrid", "cgroup v2", fix)


def _space() -> Iterable[Finding]:
    for path, least in SPACE.items():
        free, inodes = system.free_space(path)
        if free < least:
            value, expected = f"{free >> 20} MiB free", f"at least {least >> 20} MiB"
            yield refusal("space", path, value, expected, "make room or enlarge the file system")
        if 0 <= inodes < INODES_LEAST:
            expected = f"at least {INODES_LEAST} free inodes"
            yield refusal("inodes", path, f"{inodes} free inodes", expected, "remove small files nobody needs")


def _engine_plan(question: Question, traces: Traces) -> tuple[bool, list[Finding]]:
    """Return whether the engine would be restarted, and why its settings cannot be."""
    wish = dataclasses.replace(question.wish, ignored_drop_ins=[*question.wish.ignored_drop_ins, *_going(traces)])
    try:
        return bool(EngineSetup(wish).plan().restart), []
    except EngineError as error:
        return False, [must("engine-settings", item) for item in error.problems]


def _engine(info: Mapping[str, Any]) -> Iterable[Finding]:
    flavour = package.flavour()
    if flavour == "other" or Path("/snap/bin/docker").exists():
        fix = "remove it (snap remove docker, or its package) and run again: docker.io is installed then"
        yield refusal("engine", "dockerd", "an engine from elsewhere", "docker.io, docker-ce or none yet", fix)
    version = str(info.get("ServerVersion", "")) or package.version()
    if version and settings.version_tuple(version) < _CDI_FULL:
        fix = "fine without GPUs; for GPUs upgrade to a system with a newer engine, or install docker-ce"
        yield warning("engine-version", "dockerd", version, "26 or newer, to give GPUs to containers", fix)
    storage = info.get("Driver")
    if storage and storage not in _STORAGE:
        fix = "move to overlay2 when the containers can go: images have to be pulled again"
        yield warning("storage", "storage driver", str(storage), " or ".join(sorted(_STORAGE)), fix)
    foreign = group.foreign_members()
    if foreign:
        fix = "take them out there; the engine's socket is for root alone in any case"
        yield warning("docker-group", "group docker", " ".join(foreign), "no members from a directory service", fix)


def _names(question: Question) -> Iterable[Finding]:
    for name in system.missing_groups(question.unix_groups):
        fix = "correct unix_group in the policy, or the directory service: its people would be in the default group"
        yield condition("unix-group", f"unix_group {name}", "not known on this host", "a group that getent finds", fix)
    for name in system.missing_groups(question.admin_groups):
        if name != "ds01-admin":
            fix = "correct admins.groups in the policy, or make the group"
            yield warning("admin-group", f"admins.groups {name}", "not known on this host", "a group", fix)
    missing = system.missing_people(set(question.members) - set(question.accounts))
    if missing:
        fix = "correct the spelling as `id NAME` knows it, or add them to a people file; their limits wait for them"
        yield warning("members", "members", _some(missing), "people this host knows", fix)


def _containers(seen: Iterable[Effect]) -> Iterable[Finding]:
    losing = [effect["name"] for effect in seen if effect["loses_gpu"]]
    if losing:
        fix = "deploy when they are done, or stop them first; or accept it with preflight_accept: [gpu-loss]"
        expected = "no running container with a GPU by NVIDIA's hook: it loses the GPU when systemd reloads"
        yield condition("gpu-loss", "containers", _some(losing), expected, fix)


def _predecessor(question: Question, traces: Traces) -> Iterable[Finding]:
    if not traces.present():
        return
    found = len(traces.find())
    if found:
        fix = "nothing to do: they are set aside, the jobs first (docs/coming-from-the-predecessor.md)"
        yield warning("predecessor", "earlier DS01", f"{found} files in use", "none", fix)
    if Retirement(traces).settled():
        # Since it was taken out of service the policy alone says who is in which group.
        return
    moved = {
        login: group
        for login, group in traces.members().items()
        if question.group_of is not None and question.group_of(login) != group and group != "archived"
    }
    if moved:
        listed = [f"{login} ({group})" for login, group in sorted(moved.items())]
        fix = "fetch its lists (ansible-playbook playbooks/import.yml) and name them in the policy as members_file, or "
        fix += "accept the new groups with preflight_accept: [predecessor-groups]"
        expected = "the group these people have now"
        yield condition("predecessor-groups", "earlier DS01's members", _some(listed), expected, fix)


def others(me: Holder, alive: Collection[str]) -> list[Finding]:
    """Return a finding if another deployment is under way on this host."""
    holder = other(me, alive)
    if holder is None:
        return []
    minutes = int((time.time() - holder["since"]) / 60)
    fix = f"wait for it; if it is gone for good, accept it with preflight_accept: [{OTHER_RUN}]"
    value = f"{holder['user']} on {holder['machine'].partition(' ')[0]}, since {minutes} min"
    return [condition(OTHER_RUN, "another deployment", value, "one at a time", fix)]


def _going(traces: Traces) -> list[str]:
    return [str(trace.path) for trace in traces.find() if trace.kind == "engine"] if traces.present() else []


def _some(names: Collection[str], most: int = 20) -> str:
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
