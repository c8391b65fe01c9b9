"""Whether this machine's processor helps: KVM where it truly works, emulation everywhere else."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from pathlib import Path

from lab.process import LabError, run, say
from lab.vm_disk import HOME, Base

_KVM = Path("/dev/kvm")
_VERDICT = HOME / "acceleration.json"
# By emulation a kernel gets there in four seconds.
_PROOF_SECONDS = 15.0
# What a kernel says that was given no disk: it has come all the way up, on all processors.
_CAME_UP = "Unable to mount root fs"

KVM = ("-accel", "kvm", "-cpu", "host")
EMULATION = ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max")


def choose(base: Base) -> tuple[str, ...]:
    """The arguments of qemu that make machines as fast as they get here.

    A device that opens proves nothing: there are nested machines on which every kernel hangs as it starts. So a kernel
    is booted once, and the verdict is remembered for this processor, kernel and base.
    """
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return EMULATION
    asked = {"kernel": platform.release(), "base": base.directory.name, "boot": _boot_id()}
    try:
        known = json.loads(_VERDICT.read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    if known.get("asked") != asked:
        known = {"asked": asked, "works": proof(base, KVM, _PROOF_SECONDS)}
        _VERDICT.write_text(json.dumps(known))
        say(f"KVM {'works' if known['works'] else 'does not boot a kernel'} on this machine")
    return KVM if known["works"] else EMULATION


def proof(base: Base, acceleration: tuple[str, ...], seconds: float) -> bool:
    """Whether a kernel comes up with these arguments of qemu in that time."""
    with tempfile.TemporaryDirectory(dir=HOME) as directory:
        console = Path(directory, "console")
        argv = [
            *("qemu-system-x86_64", *acceleration, "-smp", "2", "-m", "512", "-nodefaults", "-display", "none"),
            *("-no-reboot", "-serial", f"file:{console}", "-kernel", str(base.kernel)),
            *("-append", "console=ttyS0 panic=-1"),
        ]
        try:
            run(argv, timeout=seconds)
        except LabError:
            return False
        return _CAME_UP in console.read_text(errors="replace")


def _boot_id() -> str:
    # A disk image of this machine may be started elsewhere, on another processor.
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
