"""A lab host with a kernel of its own: a virtual machine.

It serves where a container cannot: what only a kernel of its own shows (cgroup v2, disk quotas, boot order).
"""

from __future__ import annotations

import base64
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence

from lab import base_image, gpus, vm_accel, vm_disk
from lab.process import LabError, run, say, stream
from lab.vm_state import State, key

# Emulated on a busy machine it has taken four minutes.
_BOOT_SECONDS = 600.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MEMORY = "3072"
_PROCESSORS = "2"
_ATTEMPTS = 3


def exists(name: str) -> bool:
    """Whether there is a machine of that name, running or not."""
    return State(name).directory.is_dir()


def up(name: str) -> None:
    """Start the machine, or wait for the one that is there.

    Raises:
        LabError: A tool is missing, or the machine does not come up.
    """
    machine = State(name)
    base = vm_disk.ensure()
    if not exists(name):
        machine.directory.mkdir(parents=True)
        for disk, origin in ((machine.disk, base.root), (machine.scratch, base.scratch)):
            run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(origin), "-F", "raw", str(disk)])
    if machine.pid() is None:
        acceleration = vm_accel.choose(base)
        slow = "" if acceleration == vm_accel.KVM else " (without KVM: about a minute)"
        say(f"{name}: starting the machine{slow}")
        _start(machine, base, acceleration)
    _wait(machine)
    gpus.install(_inside(name))
    load_base(name)


def down(name: str) -> None:
    """Remove the machine with all that is in it."""
    if not exists(name):
        return
    say(f"{name}: removing the machine")
    machine = State(name)
    machine.end()
    _hang_up(machine)
    shutil.rmtree(machine.directory)


def reboot(name: str) -> None:
    """Restart the machine: memory and /run are lost, the disks stay.

    Raises:
        LabError: It does not come back.
    """
    machine = State(name)
    before = output(name, "cat", _BOOT_ID)
    output(name, "systemctl", "reboot", check=False)
    _hang_up(machine)
    _wait(machine, before)


def execute(name: str, argv: Sequence[str]) -> int:
    """Run a command as root on the machine, on the caller's terminal, and return its exit status."""
    return stream([*_ssh(State(name), *_terminal()), shlex.join(argv)])


def shell(name: str, user: str) -> int:
    """Open a login shell as a person, with a session of theirs, and return its exit status."""
    # `su` would stay in root's own session, and so in root's slice.
    return execute(name, ["run0", "--background=", f"--user={user}"])


def output(name: str, *argv: str, check: bool = True) -> str:
    """What a command prints when root runs it on the machine."""
    return run([*_ssh(State(name)), shlex.join(argv)], check=check).stdout


def load_base(name: str) -> None:
    """Give the machine's engine the test image, when that engine runs and does not have it."""
    base_image.load(_inside(name))


def _inside(name: str) -> Callable[..., list[str]]:
    return lambda *argv: [*_ssh(State(name)), shlex.join(argv)]


def inventory(name: str) -> list[str]:
    """The arguments that point ansible-playbook at this machine."""
    return [f"--inventory={State(name).inventory}"]


def _start(machine: State, base: vm_disk.Base, acceleration: tuple[str, ...]) -> None:
    public = base64.b64encode(key().with_suffix(".pub").read_bytes()).decode()
    kernel = (
        "root=/dev/vda rw rootflags=prjquota console=ttyS0 mitigations=off "
        f"systemd.hostname={machine.name} systemd.set_credential_binary=ssh.authorized_keys.root:{public}"
    )
    for attempt in range(1, _ATTEMPTS + 1):
        port = _free_port()
        machine.write_connection(port)
        argv = [
            *(
                "qemu-system-x86_64",
                "-name",
                machine.name,
                "-nodefaults",
                *acceleration,
                "-smp",
                _PROCESSORS,
                "-m",
                _MEMORY,
            ),
            *("-kernel", str(base.kernel), "-initrd", str(base.initrd), "-append", kernel),
            # Nothing on these disks has to survive this machine's own crash.
            *("-drive", f"file={machine.disk},if=virtio,format=qcow2,cache=unsafe"),
            *("-drive", f"file={machine.scratch},if=virtio,format=qcow2,cache=unsafe"),
            *("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22"),
            *("-display", "none", "-serial", f"file:{machine.console}"),
            *("-daemonize", "-pidfile", str(machine.pidfile)),
        ]
        done = run(argv, check=False)
        if done.returncode == 0:
            return
        # Somebody else may have taken the port in between; anything else is no better the next time.
        if "hostfwd" not in done.stderr or attempt == _ATTEMPTS:
            raise LabError(f"{machine.name}: qemu does not start: {done.stderr.strip()}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _wait(machine: State, before: str = "") -> None:
    """Return when the machine is up, in another boot than `before`."""
    end = time.monotonic() + _BOOT_SECONDS
    ask = f"cat {_BOOT_ID}; timeout {_BOOT_SECONDS:.0f} systemctl is-system-running --wait"
    while True:
        _wait_for_greeting(machine, end)
        answer = run([*_ssh(machine), ask], check=False)
        boot, _, said = answer.stdout.strip().partition("\n")
        if boot != before and said in {"running", "degraded"}:
            break
        # On its way down it may still greet, and then hang up in the middle of the login or the answer.
        if time.monotonic() > end:
            raise LabError(f"{machine.name}: systemd says {said or answer.stderr.strip()!r}")
        _hang_up(machine)
        time.sleep(1)
    failed = output(machine.name, "systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
    if failed:
        say(f"{machine.name}: up, but these units failed: {', '.join(line.split()[0] for line in failed)}")
    else:
        say(f"{machine.name}: up")


def _wait_for_greeting(machine: State, end: float) -> None:
    while not _greets(machine):
        if machine.pid() is None or time.monotonic() > end:
            tail = "\n".join(machine.console.read_text(errors="replace").splitlines()[-15:])
            why = "ended" if machine.pid() is None else f"does not answer after {_BOOT_SECONDS:.0f} s"
            raise LabError(f"{machine.name}: the machine {why}\n{tail}".rstrip())
        time.sleep(0.5)


def _greets(machine: State) -> bool:
    """Whether an ssh server answers; cheaper for the machine than a login."""
    port = next(line.split()[1] for line in machine.ssh_config.read_text().splitlines() if line.startswith("  Port"))
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _ssh(machine: State, *options: str) -> list[str]:
    return ["ssh", "-F", str(machine.ssh_config), *options, machine.name]


def _hang_up(machine: State) -> None:
    run(["ssh", "-F", str(machine.ssh_config), "-O", "exit", machine.name], check=False)


def _terminal() -> tuple[str, ...]:
    return ("-t",) if sys.stdin.isatty() and sys.stdout.isatty() else ()
