"""The GPUs of the host itself: closed to logins, cron, at and their like, open for the exempt and for grants.

The device filter of a control group decides, not the mode of the nodes: who has a file open may not open it again, and
neither may what runs already. Containers are in other slices, and get their devices from the engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from .. import events
from ..files import remove_file
from . import render
from .desired import Desired, Expected, LoginSpec
from .kernel import Disk
from .names import LOGIN_ROOT_SLICE, login_slice, parse_login_slice
from .people import exempt_uids, unknown_uids
from .plan import Host, HostState, Plan, Removal, Write, gather, plan
from .system import change_files, only_one, output, reload, run, write_through

DEVICE_FILE: Final = "55-ds01-devices.conf"
# After the file of all logins in the order of names: what it sets counts.
GRANT_FILE: Final = "56-ds01-grant.conf"
LOGIN_DEVICES: Final = ("/dev/fuse rw", "/dev/net/tun rw", "char-tty rw")
"""What people need beside what systemd leaves open in any case: null, zero, full, random, urandom, tty, ptmx, pts."""
# Jobs of root's run there too: they may use whatever is no GPU.
JOB_DEVICES: Final = (
    *LOGIN_DEVICES, "block-* rw", "char-misc rw", "char-ttyS rw", "char-vcs rw", "char-rtc rw", "char-sg rw",
    "char-st rw", "char-nvme rw", "char-ipmidev rw",
)  # fmt: skip
JOB_SERVICES: Final = (
    # Jobs of root and of system users have no session. sshd's sessions leave it, unless systemd-logind does not answer.
    "cron.service", "anacron.service", "atd.service", "ssh.service", "ssh@.service",
    # Mail servers run what people write into ~/.forward.
    "exim4.service", "postfix.service", "postfix@.service",
)  # fmt: skip
"""Services of the system that run what people give them."""

_CONTROL: Final = Path("/run/systemd/system.control")
# Opening the control node wakes no GPU up. Exit status and errors say nothing: systemd-run has its own.
PROBE: Final = """
import errno, glob, os
for node in [*glob.glob("/dev/nvidiactl"), *sorted(glob.glob("/dev/nvidia[0-9]*"))][:1]:
    try:
        os.close(os.open(node, os.O_RDWR))
        print("open")
    except OSError as error:
        # ENXIO and EIO are the driver's words: the filter let it pass.
        said = {errno.EPERM: "closed", errno.EACCES: "", errno.ENOENT: ""}
        print(said.get(error.errno, "open"))
"""


class Devices(Desired):
    """Whose logins may open the GPUs of the host."""

    top = LOGIN_ROOT_SLICE
    unit_globs = (f"user-*.slice.d/{DEVICE_FILE}", f"*.service.d/{DEVICE_FILE}")

    def __init__(self, exempt_uids: Iterable[int], *, closed: bool = True) -> None:
        """Take the uids of the exempt people on this host, of which root is always one, and whether it is closed."""
        self._exempt = {0, *exempt_uids}
        self._closed = closed

    def files(self, live: Collection[str], disks: Sequence[Disk]) -> dict[str, str]:
        """Return the drop-in for all logins, those that hide it for the exempt, and those of services."""
        del live, disks
        if not self._closed:
            return {}
        result = {f"user-.slice.d/{DEVICE_FILE}": render.closed_drop_in("Slice", LOGIN_DEVICES)}
        for service in JOB_SERVICES:
            result[f"{service}.d/{DEVICE_FILE}"] = render.closed_drop_in("Service", JOB_DEVICES)
        hidden = render.empty_drop_in("Empty on purpose: it hides what user-.slice.d closes for other logins.")
        return result | {f"{login_slice(uid)}.d/{DEVICE_FILE}": hidden for uid in self._exempt}

    def expected(self, name: str) -> Expected | None:
        """Return None: this is no limit that the kernel shows."""
        del name
        return None

    def opens(self, uid: int, granted: Collection[int]) -> bool:
        """Whether somebody may open the GPUs of the host."""
        return not self._closed or uid in self._exempt or uid in granted


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What was changed, or would be, and which logins the kernel lets do otherwise even now."""

    plan: Plan
    changes: Sequence[str] = ()
    problems: Sequence[str] = ()


def granted_uids(host: Host | None = None) -> set[int]:
    """Return for whom the GPUs of the host are open by a grant, as the files say."""
    found = (host or Host()).grants.glob(f"user-*.slice.d/{GRANT_FILE}")
    uids = {parse_login_slice(path.parent.name.removesuffix(".d")) for path in found}
    return {uid for uid in uids if uid is not None}


def converge_devices(
    data: LoginSpec,
    granted: Collection[int] | None = None,
    *,
    host: Host | None = None,
    dry_run: bool = False,
    prove: bool = False,
    via: str,
) -> Outcome:
    """Let logins open the GPUs of the host as the policy says, and those of grants.

    Args:
        data: Who is exempt, and whether they are closed at all.
        granted: Who has a grant now; None leaves grants as they are.
        host: Where things are.
        dry_run: Only plan.
        prove: Try it out in every login that there is, not only in those that something was changed for.
        via: Who asks, for the event.

    Raises:
        ApplyError: systemd or another run was in the way.
        OSError: A file could not be read or written.
    """
    where = host or Host()
    if dry_run:
        return _Run(data, granted, where).planned()
    with only_one(where):
        return _Run(data, granted, where).go(via, prove=prove)


def remove_devices(*, host: Host | None = None, dry_run: bool = False, via: str) -> Outcome:
    """Open the GPUs of the host to everybody, as they are without DS01. Errors as for `converge_devices`."""
    nothing = LoginSpec({}, (), (), close_gpus=False)
    return converge_devices(nothing, (), host=host, dry_run=dry_run, via=via)


def login_opens(name: str) -> bool | None:
    """Whether the GPUs can be opened in a login that there is; None where it could not be tried out."""
    # What runs in the scope is let in by the slice, and systemd writes what it has for the slice first.
    said = write_through(name, sys.executable, "-I", "-S", "-c", PROBE)
    return {"open": True, "closed": False}.get(said)


class _Run:
    """One comparison of a host with what it shall be."""

    def __init__(self, data: LoginSpec, granted: Collection[int] | None, host: Host) -> None:
        self._host = host
        state = gather(Devices, host)
        self._state = dataclasses.replace(state, reload_pending=host.device_marker.exists())
        self._live = {uid: name for name in state.live if (uid := parse_login_slice(name)) is not None}
        self._desired = Devices(_exempt(data, self._live, state), closed=data.close_gpus)
        self._before = granted_uids(host)
        self._granted = self._before if granted is None else set(granted) if data.close_gpus else set()
        self._plan = plan(self._desired, self._state)
        self._grants = self._grant_plan()

    def planned(self) -> Outcome:
        lines = [f"open the GPUs of the host in {login_slice(uid)}" for uid in sorted(self._granted - self._before)]
        lines += [f"close the GPUs of the host in {login_slice(uid)}" for uid in sorted(self._before - self._granted)]
        return Outcome(self._plan, [*self._plan.lines(), *lines])

    def go(self, via: str, *, prove: bool) -> Outcome:
        host, changed = self._host, self._plan.changed or self._grants.changed
        wrong = set(self._wrong(self._live)) if prove else set()
        if not changed and not wrong:
            return self.planned()
        services = self._plan.writes or self._plan.removals or self._state.reload_pending
        change_files(self._plan, host.units, host.device_marker)
        change_files(self._grants, host.grants, host.device_marker)
        if services:
            self._push_services()
        reload()
        logins = self._touched() | {uid: self._live[uid] for uid in wrong}
        self._open(self._wrong(logins))
        wrong = set(self._wrong(logins))
        remove_file(host.device_marker)
        outcome = dataclasses.replace(self.planned(), problems=sorted(map(self._problem, wrong)))
        self._record(outcome, via)
        return outcome

    def _grant_plan(self) -> Plan:
        """Return the changes of the files of grants, which are gone with the next boot, as all logins are."""
        text = render.open_drop_in("A grant: `ds01 grant list` says whose and until when.")
        made = [Write(f"{login_slice(uid)}.d/{GRANT_FILE}", None, text) for uid in self._granted - self._before]
        return Plan(made, [Removal(f"{login_slice(uid)}.d/{GRANT_FILE}") for uid in self._before - self._granted])

    def _touched(self) -> dict[int, str]:
        """Return the logins that what changed is about; all of them after a run that did not come to its end."""
        files = [item.name for todo in (self._plan, self._grants) for item in todo.writes]
        files += [item.name for todo in (self._plan, self._grants) for item in todo.removals]
        names = {name.partition(".d/")[0] for name in files}
        if self._state.reload_pending or "user-.slice" in names:
            return self._live
        return {uid: name for uid, name in self._live.items() if name in names}

    def _wrong(self, logins: Mapping[int, str]) -> list[int]:
        """Return the logins in which it is otherwise, after systemd wrote what it has to the kernel."""
        found = {uid: login_opens(name) for uid, name in logins.items()}
        shall = {uid: self._desired.opens(uid, self._granted) for uid in found}
        return [uid for uid, is_open in found.items() if is_open is not None and is_open is not shall[uid]]

    def _open(self, uids: Iterable[int]) -> None:
        """Open those that shall be: on cgroup v2 systemd takes no filter away that a unit shall not have any more."""
        for uid in uids:
            if self._desired.opens(uid, self._granted):
                set_live(self._live[uid], all_devices())

    def _push_services(self) -> None:
        closed = bool(self._desired.files((), ()))
        for unit in running_job_services():
            set_live(unit, JOB_DEVICES if closed else all_devices())

    def _problem(self, uid: int) -> str:
        shall = "open" if self._desired.opens(uid, self._granted) else "closed"
        return (
            f"{login_slice(uid)}: the GPUs of the host are {'closed' if shall == 'open' else 'open'}: expected them to "
            f"be {shall}: look for other drop-ins with `systemctl cat {login_slice(uid)}`"
        )

    def _record(self, outcome: Outcome, via: str) -> None:
        subject, actor = {"kind": "slices", "name": LOGIN_ROOT_SLICE}, events.this_process(via)
        if self._plan.changed:
            details = {"changes": self._plan.lines()}
            events.record("policy.load", actor=actor, subject=subject, decision="changed", details=details)
        for problem in outcome.problems:
            events.record(
                "health.fail", actor=actor, subject=subject, decision="failed", rule="bare_metal", reason=problem
            )


def all_devices() -> list[str]:
    """Return what opens everything."""
    # By name too: cgroup v1 takes no rule for all of a kind below a group that has not all of them itself.
    nodes = sorted(path for folder in ("/dev", "/dev/nvidia-caps") for path in Path(folder).glob("nvidia*"))
    return ["char-* rwm", "block-* rwm", *(f"{path} rw" for path in nodes if path.is_char_device())]


def set_live(unit: str, devices: Sequence[str]) -> None:
    """Let a unit that runs open these devices and no others, until its files are read again and say otherwise."""
    # The files that systemd makes of it are not needed, and would count at the next reload.
    run(["systemctl", "set-property", "--runtime", unit, "DevicePolicy=closed", "DeviceAllow=",
         *(f"DeviceAllow={one}" for one in devices)])  # fmt: skip
    for key in ("DevicePolicy", "DeviceAllow"):
        remove_file(_CONTROL / f"{unit}.d/50-{key}.conf")
    with contextlib.suppress(OSError):
        (_CONTROL / f"{unit}.d").rmdir()


def running_job_services() -> list[str]:
    """Return the services that run and are closed, instances of templates by their own names."""
    patterns = [name.replace("@.", "@*.") for name in JOB_SERVICES]
    listing = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", "--type=service", *patterns]
    return [line.split()[0] for line in output(listing).splitlines() if line.strip()]


def _exempt(data: LoginSpec, live: Collection[int], state: HostState) -> set[int]:
    slices = (name.rpartition(".d/")[0] for name in state.files)
    exempt = [uid for name in slices if (uid := parse_login_slice(name)) is not None]
    # Who was exempt stays so while the name services do not know them.
    return exempt_uids(data, live) | unknown_uids(exempt)
