"""The layout that the GPUs shall have, on disk: instances are gone after a reboot, and a change may be cut off.

It is written before the first change and again after the last, each time whole. Beside each instance stands the UUID
that its device last had: a rebuilt one has another, and what held the old one can be given the new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ds01.files import atomic_write, ensure_directory
from ds01.locks import exclusive
from ds01.mig.model import GpuState, Placed, Wish
from ds01.mig.wanted import Wanted
from ds01.mig_geometry import Slot
from ds01.problems import ReportedError

DIRECTORY: Final = Path("/var/lib/ds01/mig")
SCHEMA: Final = 1
# A change takes a few seconds, with a mode change of every GPU perhaps a minute.
_WAIT_S: Final = 60


class SavedError(ReportedError):
    """The file is there and cannot be used. The text is `path: value: what was expected: fix`."""


@dataclass(frozen=True)
class Layout:
    """What one GPU shall have, and which devices it last had there; None: none yet."""

    mig: bool
    instances: Mapping[Placed, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, state: GpuState) -> Layout:
        """Return the layout that a GPU has."""
        return cls(state.enabled, {instance.placed: instance.uuid for instance in state.instances})

    def wish(self) -> Wish:
        """Return it as something to plan for: everything at its place."""
        slots = tuple(Slot(placed.profile, placed.start) for placed in sorted(self.instances))
        return Wish(self.mig, slots, "the layout of the last `ds01 mig apply`")


Layouts = dict[str, Layout]
"""By the UUID of the GPU."""


def load() -> Layouts:
    """Return the layouts; none if nothing was ever applied.

    Raises:
        SavedError: The file is damaged.
        OSError: It cannot be read.
    """
    path = _file()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError("another schema")  # noqa: TRY301 - as damaged as the rest
        return {str(uuid): _layout(gpu) for uuid, gpu in data["gpus"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fix = "remove it and run `ds01 mig apply`, which makes it from the policy"
        raise SavedError(f"{path}: {error}: a layout that DS01 wrote: {fix}") from error


def save(layouts: Mapping[str, Layout]) -> bool:
    """Write the layouts; True if they were not so already. Raises OSError."""
    data = {"schema": SCHEMA, "gpus": {uuid: _plain(layout) for uuid, layout in sorted(layouts.items())}}
    path = _file()
    ensure_directory(path.parent, mode=0o700)
    return atomic_write(path, json.dumps(data, indent=1) + "\n", mode=0o600)


def wanted(layouts: Mapping[str, Layout], states: Iterable[GpuState]) -> Wanted:
    """Return the saved layouts as wishes. A GPU that was taken out of the host is not missed."""
    there = {state.uuid for state in states}
    return Wanted({uuid: layout.wish() for uuid, layout in layouts.items() if uuid in there})


@contextmanager
def alone() -> Iterator[None]:
    """Keep every other change of the layout out until this one is over.

    Raises:
        ApplyError: Another one is under way, and does not end.
        OSError: The lock cannot be made.
    """
    ensure_directory(DIRECTORY, mode=0o700)
    with exclusive(DIRECTORY / "lock", _WAIT_S, "wait for the other `ds01 mig apply`, then run again"):
        yield


def _file() -> Path:
    return DIRECTORY / "desired.json"


def _plain(layout: Layout) -> dict[str, Any]:
    instances = [
        {"profile": placed.profile, "start": placed.start, "uuid": uuid}
        for placed, uuid in sorted(layout.instances.items())
    ]
    return {"mig": layout.mig, "instances": instances}


def _layout(data: Mapping[str, Any]) -> Layout:
    instances = {Placed(int(item["start"]), str(item["profile"])): item["uuid"] for item in data["instances"]}
    return Layout(bool(data["mig"]), instances)
