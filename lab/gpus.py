"""The GPUs of a lab host: four simulated A100, their driver's library, nodes, and the container toolkit's command."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from lab import packages
from lab.nvmlsim import build, generate, toolkit
from lab.process import LabError, run

_PACKAGE = Path(build.__file__).parent
_INSTALLED = "/var/lib/nvmlsim/installed"
_SITE = "usr/lib/python3/dist-packages/nvmlsim"
# What the host's Python runs; building and testing stay here.
_MODULES = ("__init__.py", "__main__.py", "build.py", "control.py", "generate.py", "toolkit.py", "models.toml")
_COMMAND = '#!/bin/sh\nexec /usr/bin/python3 -m nvmlsim{module} "$@"\n'
# The state lasts over a reboot, as hardware does; `boot` is what a reboot makes of it.
_UNIT = """[Unit]
Description=Simulated GPUs (driver and device nodes)
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Before=basic.target docker.service
RequiresMountsFor=/var/lib/nvmlsim /run

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ln -sfn /var/lib/nvmlsim /run/nvmlsim
ExecStart=/usr/bin/nvmlsim boot A100-80 A100-80 A100-80 A100-80

[Install]
WantedBy=basic.target
"""
# As the toolkit's package leaves it: what is commented out is what it does by default.
_TOOLKIT_CONFIG = """#accept-nvidia-visible-devices-as-volume-mounts = false
#accept-nvidia-visible-devices-envvar-when-unprivileged = true
disable-require = false

[nvidia-container-runtime]
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]
"""

_START = f"""ldconfig
systemctl daemon-reload
systemctl enable --quiet --now nvmlsim.service
nvmlsim list > /dev/null || systemctl restart nvmlsim.service
printf %s {{mark}} > {_INSTALLED}
"""


def install(inside: Callable[..., list[str]]) -> None:
    """Put the simulator into a running host, when this build of it is not there, and start it.

    Args:
        inside: Makes the command that runs its arguments as root on the host.

    Raises:
        LabError: It cannot be built, or the host refuses it.
    """
    content = _archive()
    mark = hashlib.sha256(content).hexdigest()
    if run(inside("cat", _INSTALLED), check=False).stdout == mark:
        return
    run(inside("tar", "-C", "/", "--no-overwrite-dir", "--same-permissions", "-xf", "-"), stdin=content)
    run(inside("sh", "-euc", _START.format(mark=mark)))


def _archive() -> bytes:
    if not shutil.which("gcc"):
        packages.install("gcc", "libc6-dev")
    try:
        library = build.ensure()
    except generate.BuildError as error:
        raise LabError(f"the NVML simulator could not be built:\n{error}") from error
    directory = str(toolkit.LIBRARY_DIRECTORY).lstrip("/")
    versioned = f"libnvidia-ml.so.{toolkit.DRIVER_VERSION}"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        _add(tar, f"{directory}/{versioned}", library.read_bytes())
        link = tarfile.TarInfo(f"{directory}/{library.name}")
        link.type, link.linkname = tarfile.SYMTYPE, versioned
        tar.addfile(link)
        _add(tar, "usr/bin/fakecuda", build.FAKECUDA.read_bytes(), 0o755)
        _add(tar, "usr/bin/nvmlsim", _COMMAND.format(module="").encode(), 0o755)
        _add(tar, "usr/bin/nvidia-ctk", _COMMAND.format(module=".toolkit").encode(), 0o755)
        for name in _MODULES:
            _add(tar, f"{_SITE}/{name}", (_PACKAGE / name).read_bytes())
        _add(tar, "etc/systemd/system/nvmlsim.service", _UNIT.encode())
        _add(tar, "etc/nvidia-container-runtime/config.toml", _TOOLKIT_CONFIG.encode())
        state = tarfile.TarInfo("var/lib/nvmlsim")
        state.type, state.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(state)
    return stream.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
