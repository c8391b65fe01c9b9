"""The configuration format of NVIDIA's mig-parted: reading it and writing it.

    version: v1
    mig-configs:
      NAME:
        - devices: all | [0, 1]
          device-filter: "0x20B210DE" | [..]      optional
          mig-enabled: true | false
          mig-devices: {"1g.10gb": 7} | {}

It counts instances and knows no places. Writing therefore loses the places; reading it back asks for no change all the
same, since a plan leaves what is there where it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from ds01.mig.model import GpuState, Wish
from ds01.mig.wanted import Wanted
from ds01.mig_geometry import Slot
from ds01.policy.problems import PolicyError, closest, dotted
from ds01.policy.source import Document, Steps, read_yaml
from ds01.problems import Problem, shown

VERSION: Final = "v1"
_TOP: Final = ("version", "mig-configs")
_KEYS: Final = ("devices", "device-filter", "mig-enabled", "mig-devices")
_PROFILE: Final = re.compile(r"[1-7]g\.[0-9]{1,3}gb(\+me)?")
_FILTER: Final = re.compile(r"0x[0-9A-Fa-f]{8}")
# More than any GPU has room for is refused by the plan; a huge number must not become a huge list first.
_COUNT_MAX: Final = 64


def read(path: str | Path, name: str | None, states: Sequence[GpuState]) -> Wanted:
    """Return what one configuration of a file asks for; `name` may be left out if there is only one.

    Raises:
        PolicyError: The file cannot be read, is not in the format, or has no such configuration.
    """
    document = read_yaml(Path(path))
    return _Reader(document, states).wanted(name)


class _Reader:
    """Turns a document into wishes, or into all that is wrong with it."""

    def __init__(self, document: Document, states: Sequence[GpuState]) -> None:
        self._document = document
        self._states = states
        self._problems: list[Problem] = list(document.problems)

    def wanted(self, name: str | None) -> Wanted:
        configs = self._configs()
        for known, blocks in configs.items():
            self._check(("mig-configs", known), blocks)
        self._raise()
        if name is None and len(configs) != 1:
            self._error(("mig-configs",), ", ".join(configs) or "nothing", "one configuration", "choose it with --name")
        elif name is not None and name not in configs:
            near = closest(name, configs)
            fix = f"did you mean {near}?" if near else f"choose one of {', '.join(configs) or 'none: it is empty'}"
            self._error(("mig-configs",), name, "a configuration of this file", fix)
        self._raise()
        chosen = name if name is not None else next(iter(configs))
        found = self._wishes(("mig-configs", chosen), configs[chosen])
        self._raise()
        return found

    def _configs(self) -> dict[str, Any]:
        data = self._section((), self._document.data, _TOP)
        if data.get("version") != VERSION:
            self._error(("version",), shown(data.get("version")), VERSION, f"write version: {VERSION}")
        configs = data.get("mig-configs")
        if not isinstance(configs, dict):
            self._error(("mig-configs",), shown(configs), "named configurations", "write them below mig-configs:")
            return {}
        return {str(name): blocks for name, blocks in configs.items()}

    def _check(self, path: Steps, blocks: Any) -> None:
        if not isinstance(blocks, list) or not blocks:
            self._error(path, shown(blocks), "a list of sections", "begin each section with - devices:")
            return
        for index, raw in enumerate(blocks):
            here = (*path, index)
            block = self._section(here, raw, _KEYS)
            devices, filters = block.get("devices"), block.get("device-filter", [])
            if devices != "all" and not (isinstance(devices, list) and all(map(_is_index, devices))):
                self._error((*here, "devices"), shown(devices), "all, or a list of GPU indices", "write devices: all")
            if not all(isinstance(text, str) and _FILTER.fullmatch(text) for text in _listed(filters)):
                fix = 'write it like "0x20B210DE": device, then vendor'
                self._error((*here, "device-filter"), shown(filters), "PCI ids of GPU models", fix)
            if not isinstance(block.get("mig-enabled"), bool):
                value = shown(block.get("mig-enabled"))
                self._error((*here, "mig-enabled"), value, "true or false", "write mig-enabled: true")
            self._check_counts((*here, "mig-devices"), block.get("mig-devices", {}), on=block.get("mig-enabled"))

    def _check_counts(self, path: Steps, counts: Any, *, on: Any) -> None:
        if not isinstance(counts, dict):
            self._error(path, shown(counts), "counts of profiles", 'write them like "1g.10gb": 7')
            return
        if counts and on is False:
            fix = "write mig-enabled: true, or mig-devices: {}"
            self._error(path, "instances", "none where MIG is off", fix)
        for profile, count in counts.items():
            if not isinstance(profile, str) or not _PROFILE.fullmatch(profile):
                fix = "write it like 1g.10gb; DS01 makes one compute instance as large as its GPU instance"
                self._error((*path, str(profile)), shown(profile), "a MIG profile", fix)
            if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _COUNT_MAX:
                self._error((*path, str(profile)), shown(count), "a number of instances", "write how many, like 3")

    def _wishes(self, path: Steps, blocks: list[dict[str, Any]]) -> Wanted:
        wishes: dict[str, Wish] = {}
        missing: list[str] = []
        for index, block in enumerate(blocks):
            here = (*path, index)
            slots = tuple(Slot(name) for name, count in block.get("mig-devices", {}).items() for _ in range(count))
            wish = Wish(block["mig-enabled"], slots, f"{self._document.name}: {dotted(here)}")
            filters = {int(text, 16) for text in _listed(block.get("device-filter", []))}
            for state in self._states:
                if block["devices"] != "all" and state.index not in block["devices"]:
                    continue
                if filters and state.pci_device_id not in filters:
                    continue
                if state.uuid in wishes:
                    expected = "each GPU in one section"
                    fix = "name the GPUs, or tell the models apart by device-filter"
                    self._error((*here, "devices"), state.name, expected, fix)
                # All GPUs, those that cannot be divided too, may be meant to be whole.
                wishes[state.uuid] = wish
            if block["devices"] != "all":
                known = {state.index for state in self._states}
                missing += [str(gpu) for gpu in block["devices"] if gpu not in known]
        return Wanted(wishes, tuple(missing))

    def _section(self, path: Steps, data: Any, keys: Sequence[str]) -> dict[str, Any]:
        if not isinstance(data, dict):
            self._error(path, shown(data), f"a section with {', '.join(keys)}", "look at the example in the manual")
            return {}
        for key in data:
            if key not in keys:
                near = closest(str(key), keys)
                fix = f"did you mean {near}?" if near else f"remove it; known are {', '.join(keys)}"
                self._error((*path, str(key)), shown(key), "a key of mig-parted's format", fix)
        return data

    def _error(self, path: Steps, value: str, expected: str, fix: str) -> None:
        where = self._document.where(path)
        self._problems.append(Problem(dotted(path), value, expected, fix, where=where))

    def _raise(self) -> None:
        if any(problem.severity == "error" for problem in self._problems):
            raise PolicyError(self._problems)


def write(states: Sequence[GpuState], name: str) -> str:
    """Return the layout of all GPUs that can be divided as a file with one configuration of this name."""
    groups: dict[tuple[bool, tuple[tuple[str, int], ...]], list[int]] = {}
    for state in states:
        if state.profiles:
            counts = Counter(instance.placed.profile for instance in state.instances) if state.enabled else Counter()
            groups.setdefault((state.enabled, tuple(sorted(counts.items()))), []).append(state.index)
    blocks = [
        {"devices": indices, "mig-enabled": enabled, "mig-devices": dict(counts)}
        for (enabled, counts), indices in groups.items()
    ]
    data = {"version": VERSION, "mig-configs": {name: blocks}}
    return yaml.safe_dump(data, sort_keys=False)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
