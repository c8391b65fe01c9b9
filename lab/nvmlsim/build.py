"""Build the library, once for each state of its sources."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import generate
from .generate import BuildError

OUT = generate.HERE / "build"
LIBRARY = OUT / "libnvidia-ml.so.1"
FAKECUDA = OUT / "fakecuda"

_STAMP = OUT / "built-from"
_FLAGS = ("-std=gnu17", "-O1", "-Wall", "-Wextra", "-fvisibility=hidden")


def is_source() -> bool:
    """Whether the sources are here: not where only the built simulator is installed."""
    return generate.SOURCES.is_dir()


def ensure() -> Path:
    """Return the path of the library, after building it if it is not there or its sources changed.

    Raises:
        BuildError: There is no compiler, or it fails.
    """
    OUT.mkdir(exist_ok=True)
    with (OUT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = _fingerprint()
        if not (_STAMP.exists() and _STAMP.read_text() == wanted and LIBRARY.exists() and FAKECUDA.exists()):
            _build()
            _STAMP.write_text(wanted)
    return LIBRARY


def _fingerprint() -> str:
    content = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in sorted([*generate.SOURCES.iterdir(), *generate.HERE.glob("*.toml"), *generate.HERE.glob("*.py")]):
        content.update(path.name.encode() + path.read_bytes())
    content.update(generate.pynvml_path().read_bytes())
    return content.hexdigest()


def _build() -> None:
    if not shutil.which("gcc"):
        raise BuildError("gcc: not found: `apt-get install gcc libc6-dev` installs it")
    with tempfile.TemporaryDirectory(dir=OUT) as name:
        work = Path(name)
        (work / "stubs.c").write_text(generate.stubs())
        (work / "models.c").write_text(generate.models())
        sources = [*generate.SOURCES.glob("*.c"), work / "stubs.c", work / "models.c"]
        _gcc(work, "-c", "-fPIC", f"-I{generate.SOURCES}", *map(str, sources))
        objects = [f"{path.stem}.o" for path in sources if path.stem != "fakecuda"]
        _gcc(work, "-shared", f"-Wl,-soname,{LIBRARY.name}", *objects, "-lm", "-o", LIBRARY.name)
        program = [f"{path.stem}.o" for path in sources if path.stem != "stubs"]
        _gcc(work, "-static", "-s", *program, "-lm", "-o", FAKECUDA.name)
        # Never written in place: a process that has the old one loaded keeps it.
        for made in (LIBRARY, FAKECUDA):
            (work / made.name).replace(made)


def _gcc(directory: Path, *arguments: str) -> None:
    done = subprocess.run(["gcc", *_FLAGS, *arguments], cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(done.stderr)
