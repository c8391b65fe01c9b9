"""Make, on the controller, what the runtime of a host is installed from: our wheel and the wheels it needs.

A host may have no way to the internet, so it gets everything in one file. The name of a version is made of its content:
the same source is the same directory, and a changed one never overwrites what is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..problems import ReportedError
from .runtime import Target

PINS: Final = "requirements/runtime.txt"
_PACKAGE: Final = "src/ds01"
_BUILD_FILES: Final = ("pyproject.toml", "README.md", "LICENSE")
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)
_KINDS: Final = frozenset({".py", ".json", ".typed"})
# Every supported system has at least glibc 2.35.
_PLATFORMS: Final = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
_BUNDLES_KEPT: Final = 8
# Times inside a zip file start here; a fixed one makes the same wheel of the same source.
_EPOCH: Final = "315532800"


class BundleError(ReportedError):
    """The bundle cannot be made. The text is `path: value: what was expected: fix`."""


def name(root: Path) -> str:
    """Return the name of the version that the source tree at `root` is: its version, and 8 digits of its content.

    Raises:
        BundleError: There is no such tree.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted([*_sources(root), root / "pyproject.toml", root / PINS]):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
        version = _VERSION.search((root / _PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{error.filename}: {error.strerror}: DS01's source: run from a complete checkout") from error
    if version is None:
        raise BundleError(f"{_PACKAGE}/__init__.py: no __version__: a version: restore it")
    return f"{version.group(1)}-{digest.hexdigest()[:8]}"


def make(root: Path, cache: Path, target: Target) -> Path:
    """Return the bundle for a host, made if it is not in the cache. Nothing is left in the source tree.

    Args:
        root: The source tree.
        cache: Directory for bundles and wheels.
        target: What the host needs.

    Raises:
        BundleError: A wheel could not be built or found.
    """
    cache.mkdir(parents=True, exist_ok=True)
    bundle = cache / f"{name(root)}-py{target.python}-{target.machine}.zip"
    with _one_at_a_time(cache):
        if not bundle.exists():
            wheels = _dependencies(root, cache, target)
            with tempfile.TemporaryDirectory(dir=cache) as directory:
                _build(root, Path(directory))
                _pack([*sorted(Path(directory, "dist").glob("*.whl")), *sorted(wheels.glob("*.whl"))], bundle)
            _forget_old(cache)
    return bundle


def _sources(root: Path) -> list[Path]:
    return [path for path in (root / _PACKAGE).rglob("*") if path.suffix in _KINDS and path.is_file()]


def _dependencies(root: Path, cache: Path, target: Target) -> Path:
    """Return a directory with the wheels that the pins name, for this host's Python."""
    pins = (root / PINS).read_bytes()
    key = hashlib.sha256(pins).hexdigest()[:8]
    wheels = cache / f"wheels-{key}-py{target.python}-{target.machine}"
    if not wheels.is_dir():
        fresh = wheels.with_suffix(".partial")
        shutil.rmtree(fresh, ignore_errors=True)
        tag = "cp" + target.python.replace(".", "")
        command = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--implementation=cp"]
        command += [f"--python-version={target.python}", f"--abi={tag}", "--abi=abi3", "--abi=none"]
        command += [f"--platform={platform}_{target.machine}" for platform in _PLATFORMS]
        _pip([*command, f"--dest={fresh}", f"--requirement={root / PINS}"], f"a wheel for Python {target.python}")
        fresh.rename(wheels)
    return wheels


def _build(root: Path, directory: Path) -> None:
    """Build our wheel from a copy: the build leaves files beside its source."""
    source = directory / "source"
    for path in _sources(root):
        copy = source / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for file in _BUILD_FILES:
        shutil.copyfile(root / file, source / file)
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", f"--wheel-dir={directory / 'dist'}"]
    _pip([*command, str(source)], "a wheel of DS01")


def _pip(arguments: list[str], expected: str) -> None:
    environment = os.environ | {"SOURCE_DATE_EPOCH": _EPOCH, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, umask=0o022, check=False)
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip())
        fix = "let this machine reach a package index once (PIP_INDEX_URL); the wheels stay in .cache"
        raise BundleError(f"{PINS}: {complaint}: {expected}: {fix}")


def _pack(wheels: list[Path], bundle: Path) -> None:
    fresh = bundle.with_suffix(".partial")
    # Wheels are compressed already.
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as archive:
        for wheel in wheels:
            archive.write(wheel, wheel.name)
    fresh.rename(bundle)


def _forget_old(cache: Path) -> None:
    """Keep the cache of somebody who changes the source all day small; an old bundle is made again in seconds."""
    bundles = sorted(cache.glob("*.zip"), key=lambda path: path.stat().st_mtime)
    for path in bundles[:-_BUNDLES_KEPT]:
        path.unlink()


@contextlib.contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    """Let several hosts of one run share a bundle."""
    with (cache / "lock").open("w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
