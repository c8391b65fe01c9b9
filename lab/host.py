"""A lab host in a container: systemd is PID 1, with an engine of its own and slices that really limit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from lab import base_image, engine, gpus, image
from lab.process import LabError, run, say, stream

_LABEL = "ds01.lab"
_BOOT_SECONDS = 300.0
# As long as systemd itself waits for what does not end.
_SHUTDOWN_SECONDS = 90
_REMOVAL_SECONDS = 120.0

# Each option has been tried against the alternatives:
# - a private cgroup namespace: in the machine's own, the inner engine puts containers outside the tree systemd limits;
# - no SYS_RESOURCE, and no `--privileged`: some machines do not have that capability to give;
# - no SYS_TIME: the clock is the machine's, and already `timedatectl set-timezone` would move it;
# - systempaths=unconfined: the inner engine writes /proc/sys for its bridge;
# - character major 195: a test may make /dev/nvidia0; opening it then says ENXIO where permitted and EPERM where not.
_OPTIONS = (
    "--stop-signal=SIGRTMIN+3",
    "--cgroupns=private",
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--cap-drop=SYS_TIME",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=systempaths=unconfined",
    "--device-cgroup-rule=c 195:* rwm",
    "--tmpfs=/run:exec",
    "--tmpfs=/run/lock",
    "--tmpfs=/tmp:exec",
    "--volume=/var/lib/docker",
    "--env=container=docker",
)
# systemd 256 and later refuse cgroup v1 without it; on v2 it means nothing.
_INIT = ("/init-lab", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")


def names(prefix: str = "") -> list[str]:
    """The lab hosts that are there, running or not, whose names begin so."""
    if not engine.answers():
        return []
    found = run(["docker", "ps", "--all", "--filter", f"label={_LABEL}", "--format", "{{.Names}}"]).stdout.split()
    return [name for name in found if name.startswith(prefix)]


def exists(name: str) -> bool:
    """Whether a lab host of that name is there, running or not."""
    return name in names(name)


def up(name: str) -> None:
    """Start the host, or wait for the one that is there.

    Raises:
        LabError: There is no engine, another container has the name, or systemd does not come up.
    """
    engine.ensure()
    tag = image.ensure()
    if exists(name):
        run(["docker", "start", name])
    else:
        say(f"{name}: starting the host")
        run(["docker", "run", "-d", "--name", name, "--hostname", name, f"--label={_LABEL}", *_OPTIONS, tag, *_INIT])
    _wait(name)
    gpus.install(_inside(name))
    load_base(name)


def down(name: str) -> None:
    """Remove the host with all that is in it.

    Raises:
        LabError: It cannot be removed.
    """
    if not exists(name):
        return
    say(f"{name}: removing the host")
    end = time.monotonic() + _REMOVAL_SECONDS
    # The engine waits twelve seconds for the end of all processes: on a busy machine some are on their way out then.
    while (done := run(["docker", "rm", "--force", "--volumes", name], check=False)).returncode != 0 and exists(name):
        if time.monotonic() > end:
            raise LabError(f"{name}: cannot be removed: {done.stderr.strip()}")
        time.sleep(1)


def reboot(name: str) -> None:
    """Restart the host: memory and /run are lost, the disk stays.

    Raises:
        LabError: It does not come back.
    """
    # Without a limit of its own it would be the end of all processes at once where ten seconds are not enough.
    run(["docker", "restart", "-t", str(_SHUTDOWN_SECONDS), name])
    _wait(name)


def execute(name: str, argv: Sequence[str]) -> int:
    """Run a command as root on the host, on the caller's terminal, and return its exit status."""
    return stream(["docker", "exec", _terminal(), name, *argv])


def shell(name: str, user: str) -> int:
    """Open a login shell as a person, with a session as from ssh, and return its exit status."""
    return stream(["docker", "exec", _terminal(), name, "su", "--login", user])


def output(name: str, *argv: str, check: bool = True) -> str:
    """What a command prints when root runs it on the host."""
    return run(["docker", "exec", name, *argv], check=check).stdout


def load_base(name: str) -> None:
    """Give the host's engine the test image, when that engine runs and does not have it."""
    base_image.load(_inside(name))


def _inside(name: str) -> Callable[..., list[str]]:
    return lambda *argv: ["docker", "exec", "-i", name, *argv]


def inventory(name: str) -> list[str]:
    """The arguments that point ansible-playbook at this host."""
    return ["--inventory=lab/inventory/hosts.yml", f"--extra-vars=ansible_host={name}"]


def _terminal() -> str:
    return "-it" if sys.stdin.isatty() and sys.stdout.isatty() else "-i"


def _wait(name: str) -> None:
    end = time.monotonic() + _BOOT_SECONDS
    state = ""
    while (state := _state(name)) not in {"running", "degraded"}:
        if time.monotonic() > end:
            log = run(["docker", "logs", "--tail", "15", name], check=False).stdout
            raise LabError(f"{name}: systemd says {state!r} after {_BOOT_SECONDS:.0f} s\n{log}".rstrip())
        time.sleep(0.2)
    failed = output(name, "systemctl", "list-units", "--failed", "--plain", "--no-legend", check=False).splitlines()
    if failed:
        say(f"{name}: up, but these units failed: {', '.join(line.split()[0] for line in failed)}")
    else:
        say(f"{name}: up")


def _state(name: str) -> str:
    answer = run(["docker", "exec", name, "systemctl", "is-system-running"], check=False, timeout=120)
    return answer.stdout.strip() or answer.stderr.strip()
