"""`ds01-lab/base`: the small image that tests run in the host's own engine, made without a registry."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterable

from lab.process import run

NAME = "ds01-lab/base:latest"


def load(inside: Callable[..., list[str]]) -> None:
    """Give a host's engine the image, when that engine runs and does not have it.

    Args:
        inside: Makes the command that runs its arguments as root on the host.
    """
    if run(inside("systemctl", "is-active", "--quiet", "docker.service"), check=False).returncode != 0:
        return
    if run(inside("docker", "image", "inspect", NAME), check=False).returncode == 0:
        return
    binary = subprocess.run(inside("cat", "/usr/bin/busybox"), capture_output=True, check=True).stdout
    applets = run(inside("/usr/bin/busybox", "--list")).stdout.split()
    run(inside("docker", "import", "--change", 'CMD ["/bin/sh"]', "-", NAME), stdin=layer(binary, applets))


def layer(busybox: bytes, applets: Iterable[str]) -> bytes:
    """A root filesystem as a tar stream: one static busybox with a link for each of its commands.

    Args:
        busybox: The static binary.
        applets: The names it answers to (`busybox --list`).
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        _file(tar, "bin/busybox", busybox, 0o755)
        _file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)
        _file(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        for name in applets:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o777
                tar.addfile(link)
    return stream.getvalue()


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
