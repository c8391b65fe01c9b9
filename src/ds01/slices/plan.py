"""Compare a host with what it shall have: nothing is changed here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import TEMP_SUFFIX, read_exactly
from ..fileset import OURS
from .desired import Desired, Expected
from .kernel import CGROUP_ROOT, Cgroups, Disk, differences, find_disks
from .spec import LimitValues

Differences = Mapping[str, tuple[float | int | None, float | int | None]]
"""{limit: (what the kernel has, what it shall have)}."""


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """Where things are on a host."""

    units: Path = Path("/etc/systemd/system")
    run: Path = Path("/run/ds01")
    cgroups: Path = CGROUP_ROOT
    grants: Path = Path("/run/systemd/system")
    """Unit files until the next boot."""

    @property
    def reload_marker(self) -> Path:
        """A file that exists while systemd may not have read the unit files as they are."""
        return self.run / "slices.reload"

    @property
    def device_marker(self) -> Path:
        """A file that exists while the kernel may not have the device rules of the unit files."""
        return self.run / "devices.reload"

    @property
    def lock(self) -> Path:
        """The file that one run at a time holds."""
        return self.run / "slices.lock"


@dataclasses.dataclass(frozen=True, slots=True)
class HostState:
    """What a host has."""

    files: Mapping[str, str]
    """Files with names of this family, ours or not, below the directory of unit files: {name: text}."""
    leftovers: Sequence[str]
    """What interrupted runs left there: temporary files, empty directories of drop-ins."""
    live: Mapping[str, LimitValues]
    """Slices that exist in the kernel, with the limits it has."""
    disks: Sequence[Disk]
    reload_pending: bool
    memory: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Bytes in use by live slices, without files."""


@dataclasses.dataclass(frozen=True, slots=True)
class Write:
    """A file to write."""

    name: str
    before: str | None
    after: str


@dataclasses.dataclass(frozen=True, slots=True)
class Removal:
    """A file of ours, or an empty directory, to remove."""

    name: str
    before: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Push:
    """A live slice that has other limits in the kernel than it shall have."""

    name: str
    differences: Differences
    memory: int = 0
    """Bytes in use now, without files."""

    @property
    def warning(self) -> str:
        """Say that programs may be ended, if they may: where more memory is in use than shall be allowed."""
        _, allowed = self.differences.get("memory_max", (None, None))
        if allowed is None or self.memory <= allowed:
            return ""
        use = f"{self.memory >> 20} MiB in use, {int(allowed) >> 20} MiB allowed"
        return f"{self.name}: {use}: the kernel may end programs"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The changes that make a host what it shall be, in the order in which they are made."""

    writes: Sequence[Write] = ()
    removals: Sequence[Removal] = ()
    reload: bool = False
    pushes: Sequence[Push] = ()

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.writes or self.removals or self.reload or self.pushes)

    def lines(self) -> list[str]:
        """Return one line for people about each change."""
        result = [f"{'change' if write.before is not None else 'write'} {write.name}" for write in self.writes]
        result += [f"remove {removal.name}" for removal in self.removals]
        if self.reload:
            result.append("reload systemd")
        for push in self.pushes:
            changes = (f"{key} {_show(old)} -> {_show(new)}" for key, (old, new) in push.differences.items())
            result.append(f"set {push.name}: {', '.join(changes) or 'to what systemd has'}")
        return result + self.warnings()

    def warnings(self) -> list[str]:
        """Return one line for people about each live slice whose programs may be ended."""
        return [push.warning for push in self.pushes if push.warning]

    def diffs(self, directory: Path) -> list[dict[str, str]]:
        """Return the changes in the form in which Ansible shows differences."""
        result = [_diff(str(directory / item.name), item.before or "", item.after) for item in self.writes]
        result += [_diff(str(directory / item.name), item.before, "") for item in self.removals]
        for push in self.pushes:
            sides = [
                "".join(f"{key}: {_show(pair[side])}\n" for key, pair in push.differences.items()) for side in (0, 1)
            ]
            result.append(_diff(f"{push.name} (kernel)", *sides))
        return result


def gather(family: type[Desired], host: Host) -> HostState:
    """Read what a host has of a family of slices. Raises OSError."""
    files: dict[str, str] = {}
    leftovers: set[str] = set()
    for pattern in family.unit_globs:
        for path in host.units.glob(pattern):
            if path.is_file() or path.is_symlink():
                # A link, mostly to /dev/null, is somebody else's; its target is not the unit file's text.
                text = "" if path.is_symlink() else read_exactly(path) or ""
                files[str(path.relative_to(host.units))] = text
        leftovers.update(_leftovers(host.units, pattern))
    disks = find_disks()
    cgroups = Cgroups(host.cgroups, disks)
    found = {name: cgroups.read(name) for name in cgroups.live_slices(family.top)}
    # One that ended meanwhile has read as if it had no limits.
    live = {name: values for name, values in found.items() if cgroups.exists(name)}
    memory = {name: cgroups.memory_needed(name) for name in live}
    return HostState(files, sorted(leftovers), live, disks, host.reload_marker.exists(), memory)


def plan(desired: Desired, state: HostState) -> Plan:
    """Return the changes that are missing."""
    wanted = desired.files(state.live.keys(), state.disks)
    writes = [
        Write(name, state.files.get(name), text) for name, text in wanted.items() if state.files.get(name) != text
    ]
    removals = [
        Removal(name, text) for name, text in state.files.items() if name not in wanted and text.startswith(OURS)
    ]
    directories = {str(Path(name).parent) for name in wanted}
    leftovers = [Removal(name) for name in state.leftovers if name not in directories]
    pushes = [
        dataclasses.replace(push, memory=state.memory.get(push.name, 0))
        for push in wrong_in_kernel(desired, state.live)
    ]
    if desired.removed and removals:
        pushes = [Push(name, {}) for name in state.live]
    # After a change of files, and also before a push without one: systemd sets a limit again only after a reload.
    reload = bool(writes or removals or pushes or state.reload_pending)
    return Plan(writes, [*removals, *leftovers], reload, pushes)


def wrong_in_kernel(desired: Desired, live: Mapping[str, LimitValues]) -> list[Push]:
    """Return the live slices whose limits in the kernel are not what they shall be."""
    result = []
    for name, actual in live.items():
        expected = desired.expected(name)
        wrong = {} if expected is None else _wrong(expected, actual)
        if wrong:
            result.append(Push(name, wrong))
    return result


def _wrong(expected: Expected, actual: LimitValues) -> Differences:
    different = differences(expected.limits, actual)
    if not expected.exempt:
        return different
    same = expected.limits.keys() & actual.keys() - different.keys()
    return {key: (actual[key], None) for key in sorted(same)}


def _leftovers(units: Path, pattern: str) -> set[str]:
    parent, _, name = pattern.rpartition("/")
    temporary = set(units.glob(f"{parent}/.{name}.*{TEMP_SUFFIX}".lstrip("/")))
    empty = {path for path in units.glob(parent) if path.is_dir() and not any(path.iterdir())} if parent else set()
    return {str(path.relative_to(units)) for path in temporary | empty}


def _show(value: float | None) -> str:
    return "unlimited" if value is None else f"{value:.15g}"


def _diff(header: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before, "after": after}
