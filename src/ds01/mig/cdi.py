"""The container toolkit's CDI specification: by it the engine knows what to put into a container for each device.

It names MIG devices by index and UUID, so it is wrong after each change of the layout. Nobody but us notices that: the
toolkit's own refresh watches the driver only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ds01.cdi.base import read_spec
from ds01.cdi.spec import CdiError
from ds01.engine.command import NOT_FOUND, run
from ds01.files import atomic_write, ensure_directory
from ds01.mig.model import GpuState
from ds01.problems import ReportedError

# Where the toolkit's own service writes it, too: two files of one kind would contradict each other.
SPEC: Final = Path("/run/cdi/nvidia.yaml")
KIND: Final = "nvidia.com/gpu"
_GENERATE: Final = ("nvidia-ctk", "cdi", "generate")


class SpecError(ReportedError):
    """Containers could not be given the devices that are there."""


def refresh(states: Sequence[GpuState], *, dry_run: bool = False) -> bool:
    """Generate the specification anew, and put it in place once it names every device.

    Args:
        states: All GPUs as they are now.
        dry_run: Only say whether it would change.

    Returns:
        True if it was another one.

    Raises:
        SpecError: It could not be made, or a device is not in it; the old one stays.
        OSError: It could not be written.
    """
    text, names = _generate()
    if missing := sorted(_expected(states) - names):
        fix = "run `nvidia-ctk --debug cdi generate` as root and read what it says of them"
        raise SpecError(f"{SPEC}: without {', '.join(missing)}: an entry for each device of this host: {fix}")
    if dry_run:
        return not SPEC.is_file() or SPEC.read_text(encoding="utf-8", errors="replace") != text
    ensure_directory(SPEC.parent, mode=0o755)
    return atomic_write(SPEC, text, mode=0o644)


def _generate() -> tuple[str, set[str]]:
    """Return a new specification, and the devices that it names."""
    with tempfile.TemporaryDirectory(prefix="ds01-cdi-") as directory:
        output = Path(directory) / SPEC.name
        try:
            done = run([*_GENERATE, f"--output={output}"])
            if done.ok:
                spec = read_spec(output)
                if spec.get("kind") != KIND:
                    raise SpecError(f"nvidia-ctk: {spec.get('kind')}: {KIND} as kind: update the container toolkit")
                return output.read_text(encoding="utf-8"), {str(device["name"]) for device in spec["devices"]}
            said = "not installed" if done.status == NOT_FOUND else done.complaint
        except (OSError, CdiError, KeyError, TypeError) as error:
            said = str(error)
    fix = "install NVIDIA's container toolkit (package nvidia-container-toolkit), then run `ds01 mig apply` again"
    raise SpecError(f"nvidia-ctk: {said}: a CDI specification: {fix}")


def _expected(states: Sequence[GpuState]) -> set[str]:
    """Return the name of each device, by index and by UUID. A GPU in MIG mode is none itself."""
    names = set()
    for state in states:
        if state.problem:
            continue
        if state.enabled:
            names |= {name for item in state.instances if item.uuid for name in (item.device, item.uuid)}
        else:
            names |= {str(state.index), state.uuid}
    return names
