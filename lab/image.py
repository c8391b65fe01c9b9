"""The host image: Debian with systemd and an engine, made from packages alone, cached by a hash of its recipe."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab import packages
from lab.process import CACHE, LabError, alone, run, say

SUITE = "trixie"
REPOSITORY = "ds01-lab/host"
PARTS = Path(__file__).parent / "host_image"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def contents() -> list[str]:
    """The Debian packages of the image, from `lab/host_image/packages`."""
    return listed(PARTS / "packages")


def listed(path: Path) -> list[str]:
    """The package names in a file, its comments left out."""
    return [name for line in path.read_text().splitlines() for name in line.partition("#")[0].split()]


def tag() -> str:
    """The image's name with a hash of everything that decides its content."""
    recipe = hashlib.sha256(SUITE.encode())
    for name in ("packages", "customize", "customize-container", "init-lab"):
        recipe.update((PARTS / name).read_bytes())
    return f"{REPOSITORY}:{recipe.hexdigest()[:12]}"


def ensure() -> str:
    """Return the image's tag, after building it if this recipe was never built here.

    Raises:
        LabError: A tool is missing and cannot be installed, or the build fails.
    """
    name = tag()
    with alone(CACHE / "image.lock"):
        if run(["docker", "image", "inspect", name], check=False).returncode != 0:
            _build(name)
    return name


def remove() -> None:
    """Remove every host image from the engine."""
    found = run(["docker", "image", "ls", "-q", REPOSITORY]).stdout.split()
    if found:
        run(["docker", "image", "rm", "--force", *dict.fromkeys(found)])


def bootstrap(include: Sequence[str], hooks: Sequence[str], target: str) -> list[str]:
    """The command that makes a root filesystem from Debian packages, after installing what that needs here.

    Args:
        include: The packages.
        hooks: Shell scripts that change it; `$1` is its root. They are text, because an unprivileged bootstrap
            runs them as a user who may not read this directory.
        target: A directory, or `-` for a tar stream.

    Raises:
        LabError: A tool is missing and cannot be installed.
    """
    missing = [] if shutil.which("mmdebstrap") else ["mmdebstrap"]
    if not _KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing:
        packages.install(*missing)
    return [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(include)}",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        '--aptopt=Acquire::Languages "none"',
        *_proxies(),
        *(f"--customize-hook={hook}" for hook in hooks),
        SUITE,
        target,
        *([mirror] if (mirror := os.environ.get("DS01_LAB_MIRROR")) else []),
    ]


def _build(name: str) -> None:
    init = (PARTS / "init-lab").read_text()
    hooks = [
        (PARTS / "customize").read_text(),
        (PARTS / "customize-container").read_text(),
        f'cat > "$1/init-lab" <<\'INIT\'\n{init}INIT\nchmod 0755 "$1/init-lab"\n',
    ]
    command = bootstrap(contents(), hooks, "-")
    say(f"building the host image {name} (Debian {SUITE}; once, about a minute)")
    with tempfile.NamedTemporaryFile(dir=CACHE, suffix=".log") as log:
        packing = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        load = subprocess.run(
            ["docker", "import", "--change", 'CMD ["/init-lab"]', "-", name],
            stdin=packing.stdout,
            capture_output=True,
            check=False,
        )
        if packing.wait() != 0 or load.returncode != 0:
            # A truncated stream may still import as an image; it must not be taken for the real one.
            run(["docker", "image", "rm", "--force", name], check=False)
            tail = "\n".join(Path(log.name).read_text(errors="replace").splitlines()[-15:])
            raise LabError(
                f"the host image could not be built:\n{tail}\n{load.stderr.decode(errors='replace')}".rstrip()
            )


def _proxies() -> list[str]:
    """This machine's own apt proxies, which a bootstrap does not read by itself."""
    if not shutil.which("apt-config"):
        return []
    lines = run(["apt-config", "dump", "Acquire"]).stdout.splitlines()
    wanted = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CAInfo")
    return [f"--aptopt={line.rstrip(';')}" for line in lines if line.startswith(wanted)]
