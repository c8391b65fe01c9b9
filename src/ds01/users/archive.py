"""Pack what a person leaves behind, and prove that it can be unpacked."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from ..files import ensure_directory
from ..problems import ApplyError

CHUNK: Final = 1 << 20
RESERVE_FRACTION: Final = 0.05
"""Of the archive's file system, always left free: an archive must not be what stops the host."""
_TAR_CHANGED: Final = 1
"""Exit status of tar when a file changed while it was read: the archive is whole, that file may be of two moments."""
_PARTIAL: Final = ".partial"


@dataclass(frozen=True, slots=True)
class Archive:
    """A finished, verified archive."""

    path: str
    sha256: str
    """Of the tar stream within."""
    files_changed: bool
    """A file changed while it was read."""


def size_of(paths: Sequence[str]) -> int:
    """Return the bytes that directories and files occupy on the disk; links are not followed."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += os.lstat(path).st_blocks * 512
        for _, directories, files, descriptor in os.fwalk(path, follow_symlinks=False):
            for name in (*directories, *files):
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
    return total


def changed_since(paths: Sequence[str], moment: float) -> bool:
    """Say whether any of the directories and files, or anything in them, changed after a moment (epoch seconds)."""
    for path in paths:
        if os.lstat(path).st_ctime > moment:
            return True
        for _, directories, files, descriptor in os.fwalk(path, follow_symlinks=False):
            if os.fstat(descriptor).st_ctime > moment:
                return True
            for name in (*directories, *files):
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_ctime > moment:
                        return True
    return False


def pack(login: str, paths: Sequence[str], directory: Path) -> Archive:
    """Pack directories and files into one compressed tar, readable by root alone, and read it back.

    Uses zstd where the host has it, else gzip. GNU tar keeps owners as numbers, ACLs, extended attributes and holes,
    stays on each file system, and stores links as links.

    Raises:
        ApplyError: Not enough space, or packing or reading back failed; no archive is left.
    """
    ensure_directory(directory, mode=0o700)
    _space(paths, directory)
    zstd = shutil.which("zstd") is not None
    compress = ["zstd", "-q", "-T0", "-c"] if zstd else ["gzip", "-c"]
    target = _free_name(directory, login, "tar.zst" if zstd else "tar.gz")
    partial = target.with_name(target.name + _PARTIAL)
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as output:
            os.fchmod(descriptor, 0o600)
            digest, changed = _write(paths, compress, output)
            os.fsync(descriptor)
        if read_back(partial) != digest:
            raise ApplyError(
                f"{partial}: what was read back is not what was packed: nothing was removed: check the disk"
            )
        partial.rename(target)
    except OSError as error:
        raise ApplyError(
            f"{partial}: {error.strerror}: no archive was made, nothing was removed: free space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return Archive(str(target), digest, changed)


def read_back(path: Path) -> str:
    """Decompress an archive, have tar read all of it, and return the SHA-256 of the tar stream.

    Raises:
        ApplyError: It cannot be read.
    """
    with path.open("rb") as head:
        expand = ["zstd", "-q", "-d", "-c"] if head.read(4) == b"\x28\xb5\x2f\xfd" else ["gzip", "-d", "-c"]
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        expander = subprocess.Popen(expand, stdin=stream, stdout=subprocess.PIPE)
        reader = subprocess.Popen(["tar", "--list", "--file=-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        with _pipes(expander, reader) as (source, sink):
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                # tar closes its end after the end-of-archive mark; the rest is padding.
                with contextlib.suppress(BrokenPipeError):
                    sink.write(chunk)
    if expander.returncode != 0 or reader.returncode != 0:
        raise ApplyError(f"{path}: the archive cannot be read back: nothing was removed: check the disk")
    return digest.hexdigest()


def _write(paths: Sequence[str], compress: Sequence[str], output: IO[bytes]) -> tuple[str, bool]:
    options = ["--numeric-owner", "--acls", "--xattrs", "--sparse", "--one-file-system"]
    names = [path.lstrip("/") for path in paths]
    command = ["tar", "--create", "--file=-", *options, "--directory=/", "--", *names]
    packer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    presser = subprocess.Popen(compress, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.DEVNULL)
    complaints: list[bytes] = []
    listener = threading.Thread(target=lambda: complaints.append(packer.stderr.read() if packer.stderr else b""))
    listener.start()
    digest = hashlib.sha256()
    with _pipes(packer, presser) as (source, sink):
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            try:
                sink.write(chunk)
            except BrokenPipeError:
                packer.kill()
                break
    listener.join()
    if presser.returncode != 0:
        raise ApplyError(
            "the archive could not be written (is the disk full?): no archive was made, nothing was removed"
        )
    if packer.returncode not in (0, _TAR_CHANGED):
        text = b"".join(complaints).decode("utf-8", "replace").strip().splitlines()
        raise ApplyError(f"tar: {'; '.join(text[-3:])}: no archive was made, nothing was removed")
    return digest.hexdigest(), packer.returncode == _TAR_CHANGED


@contextlib.contextmanager
def _pipes(first: subprocess.Popen[bytes], second: subprocess.Popen[bytes]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give the output of one program and the input of another; wait for both."""
    if first.stdout is None or second.stdin is None:
        raise ValueError("both programs need a pipe")
    try:
        yield first.stdout, second.stdin
    except BaseException:
        first.kill()
        second.kill()
        raise
    finally:
        first.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            second.stdin.close()
        first.wait()
        second.wait()


def _space(paths: Sequence[str], directory: Path) -> None:
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize - int(room.f_blocks * room.f_frsize * RESERVE_FRACTION)
    needed = size_of(paths)
    if needed > free:
        raise ApplyError(
            f"{directory}: {needed >> 20} MiB to archive, {max(free, 0) >> 20} MiB free: "
            "room for all of it before compression: free space, or mount a larger disk there",
        )


def _free_name(directory: Path, login: str, ending: str) -> Path:
    today = dt.datetime.now(dt.UTC).date().isoformat()
    stem = f"{quote(login, safe='@')}-{today}"
    number = 1
    target = directory / f"{stem}.{ending}"
    while os.path.lexists(target):
        number += 1
        target = directory / f"{stem}-{number}.{ending}"
    return target
