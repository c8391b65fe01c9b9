"""What virtual machines start from: kernel, initial file system and disk, cached by a hash of their recipe."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import image, packages
from lab.process import CACHE, LabError, alone, run, say

HOME = CACHE / "vm"
"""All that virtual machines leave on this machine."""

_PARTS = Path(__file__).parent / "machine_image"
_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mkfs.ext4": "e2fsprogs",
    "ssh": "openssh-client",
}
# Sparse: the files take what is written to them.
_ROOT_SIZE = "10G"
_SCRATCH_SIZE = "1G"
# Project quotas are a property of an ext4 file system from the start.
_EXT4 = ("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "quota,project", "-E", "quotatype=prjquota")


@dataclass(frozen=True)
class Base:
    """One built recipe; nothing writes to it after it was made."""

    directory: Path

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The kernel's initial file system."""
        return self.directory / "initrd.img"

    @property
    def root(self) -> Path:
        """The root disk, raw."""
        return self.directory / "root.img"

    @property
    def scratch(self) -> Path:
        """An empty second disk, raw."""
        return self.directory / "scratch.img"


def contents() -> list[str]:
    """The Debian packages: those of the container host, and what a machine needs to boot."""
    return [*image.contents(), *image.listed(_PARTS / "packages")]


def fingerprint() -> str:
    """A hash of everything that decides what a machine starts from."""
    recipe = hashlib.sha256("\0".join((image.SUITE, *contents(), _ROOT_SIZE, _SCRATCH_SIZE, *_EXT4)).encode())
    recipe.update((image.PARTS / "customize").read_bytes())
    recipe.update((_PARTS / "customize").read_bytes())
    recipe.update((_PARTS / "lab_bytecode.py").read_bytes())
    return recipe.hexdigest()[:12]


def ensure() -> Base:
    """Return the base, after building it if this recipe was never built here.

    Raises:
        LabError: A tool is missing and cannot be installed, or the build fails.
    """
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool, path=_path())]
    if missing:
        packages.install(*missing)
    base = Base(HOME / f"base-{fingerprint()}")
    with alone(HOME / "build.lock"):
        if not base.directory.exists():
            _build(base)
    return base


def _path() -> str:
    # mkfs lives where an ordinary user's PATH does not look.
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _build(base: Base) -> None:
    say(f"building the disk of virtual machines (Debian {image.SUITE}; once, about a minute)")
    bytecode = (_PARTS / "lab_bytecode.py").read_text()
    hooks = [
        (image.PARTS / "customize").read_text(),
        (_PARTS / "customize").read_text(),
        f"cat > \"$1/usr/lib/python3/dist-packages/lab_bytecode.py\" <<'PYTHON'\n{bytecode}PYTHON\n",
    ]
    # The files have many owners; who is not root gives them those in a namespace of their own.
    inside = [] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--map-auto"]
    environment = {**os.environ, "PATH": _path()}
    with tempfile.TemporaryDirectory(dir=HOME, prefix="build-") as name:
        packed, files, made = Path(name, "files.tar"), Path(name, "files"), Base(Path(name, "base"))
        files.mkdir()
        made.directory.mkdir()
        try:
            run(image.bootstrap(contents(), hooks, str(packed)), env=environment)
            # The kernel makes the device files, and in a namespace nobody else can.
            run([*inside, "tar", "-C", str(files), "-xpf", str(packed), "--exclude=./dev/*"])
            for source, target in (("vmlinuz", made.kernel), ("initrd.img", made.initrd)):
                shutil.copyfile((files / source).resolve(), target)
            run([*inside, *_EXT4, "-d", str(files), str(made.root), _ROOT_SIZE], env=environment)
            run([*_EXT4, str(made.scratch), _SCRATCH_SIZE], env=environment)
        except LabError as error:
            tail = "\n".join(str(error).splitlines()[-15:])
            raise LabError(f"the disk could not be built:\n{tail}") from error
        finally:
            run([*inside, "rm", "-rf", str(files)])
        made.directory.rename(base.directory)
