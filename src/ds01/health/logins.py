"""Are the GPUs of the host closed to logins, cron and at? It is tried out where people's programs run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..enforce.grants import granted_now
from ..ledger import LEDGER
from ..slices.devices import PROBE, converge_devices, login_opens, running_job_services
from ..slices.kernel import CGROUP_ROOT
from .model import COMMAND_SECONDS, Check, failed, ok, run, warning

if TYPE_CHECKING:
    from ..slices.desired import LoginSpec

_NAME: Final = "bare metal"
_FIX: Final = "ds01 enforce slices"
_REPAIR: Final = ("ds01", "enforce", "slices")
# Nobody has this uid: what its slice gets is what a person gets who logs in for the first time.
_NOBODYS: Final = "user-4294967294.slice"


def check_devices(spec: LoginSpec) -> Check:
    """Neither a login of somebody new nor a service that runs people's programs can open a GPU of the host."""
    if not spec.close_gpus:
        return ok(_NAME, "the policy leaves the GPUs of the host open to everybody (bare_metal.close_gpus)")
    login = login_opens(_NOBODYS)
    if login is None:
        return ok(_NAME, "there is no GPU to open")
    services = running_job_services()
    is_open = ["logins"] if login else []
    is_open += [unit for unit in services if _service_opens(unit)]
    if is_open:
        return failed(_NAME, f"GPUs of the host can be opened by {', '.join(is_open)}", _FIX, _REPAIR)
    if changes := converge_devices(spec, granted_now(LEDGER), dry_run=True, via="health").changes:
        return warning(_NAME, "; ".join(changes), _FIX, _REPAIR)
    return ok(_NAME, f"closed to logins and to {', '.join(services) or 'no service'}, tried out")


def _service_opens(unit: str) -> bool:
    """Whether a process in the control group of a service that runs can open a GPU."""
    path = run("systemctl", "show", "--property=ControlGroup", "--value", unit).stdout.strip().lstrip("/")
    for root in (CGROUP_ROOT, CGROUP_ROOT / "devices"):
        file = root / path / "cgroup.procs"
        if path and file.exists():
            return _probe_in(file)
    # No group of its own with a device filter: whatever its parent lets pass.
    return True


def _probe_in(file: Path) -> bool:
    # The process moves itself, tries, and is gone; nothing of the service is touched.
    program = f"open({str(file)!r}, 'w').write('0')\n{PROBE}"
    argv = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    return done.stdout.strip() == "open"
