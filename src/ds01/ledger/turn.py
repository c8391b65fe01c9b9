"""One writer after the other, in the order in which they came.

SQLite lets a waiting writer sleep and look again, so newcomers overtake it and a few wait very long. A System V
semaphore hands over to the longest waiter inside the kernel, gives up at a deadline, and is given back by the kernel
when its holder is killed. It only orders: that there is one writer is SQLite's own lock's doing, so whatever happens to
the semaphore costs fairness and never a wrong grant. Measured in `tests/bench/bench_ledger.py`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ds01.locks import exclusive
from ds01.problems import ApplyError

from .clock import boot_id
from .errors import LedgerBusyError, LedgerError, from_os

_IPC_PRIVATE: Final = 0
_IPC_CREAT: Final = 0o1000
_IPC_RMID: Final = 0
_GETVAL: Final = 12
_SEM_UNDO: Final = 0x1000
_GONE: Final = frozenset({errno.EINVAL, errno.EIDRM})
_ATTEMPTS: Final = 3


class _Operation(ctypes.Structure):
    _fields_ = (("number", ctypes.c_ushort), ("change", ctypes.c_short), ("flags", ctypes.c_short))


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_libc: Final = ctypes.CDLL(None, use_errno=True)
# Zero is free: wait until it is, and make it one, in one step.
_TAKE: Final = (_Operation * 2)(_Operation(0, 0, 0), _Operation(0, 1, _SEM_UNDO))
_GIVE: Final = (_Operation * 1)(_Operation(0, -1, _SEM_UNDO))


class Turn:
    """The queue of writers of one ledger. Not for use by two threads at once."""

    def __init__(self, path: Path) -> None:
        """Remember the file that names the semaphore; nothing is opened yet.

        Args:
            path: A file in a directory that only the ledger's owner writes.
        """
        self._path = path
        self._semaphore: int | None = None

    @contextmanager
    def taken(self, deadline: float) -> Iterator[None]:
        """Hold the turn for the body.

        Args:
            deadline: `time.monotonic()` seconds at which to give up.

        Raises:
            LedgerBusyError: It was not our turn before the deadline.
            LedgerError: The queue cannot be made here.
        """
        semaphore = self._take(deadline)
        try:
            yield
        finally:
            # If it is gone, so is what there was to give back.
            _libc.semop(semaphore, _GIVE, 1)

    def destroy(self) -> None:
        """Remove the queue; who waits in it takes part in a new one."""
        if (semaphore := self._read()) is not None:
            _libc.semctl(semaphore, 0, _IPC_RMID)
        self._path.unlink(missing_ok=True)
        self._semaphore = None

    def _take(self, deadline: float) -> int:
        for _ in range(_ATTEMPTS):
            if self._semaphore is None:
                self._semaphore = self._find(deadline)
            code = _wait(self._semaphore, deadline)
            if code == 0:
                return self._semaphore
            if code not in _GONE:
                raise LedgerError(f"{self._path}: no turn: {os.strerror(code)}")
            self._semaphore = None
        raise LedgerError(f"{self._path}: the queue of writers is removed again and again: stop what does that")

    def _find(self, deadline: float) -> int:
        """Return the semaphore that the file names; make one if it names none that exists."""
        fix = f"`fuser -v {self._path}` shows by whom"
        try:
            with exclusive(self._path, max(0.0, deadline - time.monotonic()), fix):
                known = self._read()
                if known is not None and _exists(known):
                    return known
                made: int = _libc.semget(_IPC_PRIVATE, 1, 0o600 | _IPC_CREAT)
                if made < 0:
                    why = os.strerror(ctypes.get_errno())
                    raise LedgerError(f"no semaphore for the queue of writers: {why}: `ipcs -s` lists them")
                # In place: the lock is on this very file.
                self._path.write_text(json.dumps(_here() | {"semaphore": made}), encoding="ascii")
        except ApplyError as error:
            raise LedgerBusyError(str(error)) from error
        except OSError as error:
            raise from_os(error, self._path) from error
        return made

    def _read(self) -> int | None:
        try:
            noted: Any = json.loads(self._path.read_bytes())
            if {key: noted[key] for key in ("boot", "namespace")} == _here():
                return int(noted["semaphore"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None


def _here() -> dict[str, Any]:
    """Return where numbers of semaphores mean anything: a new boot and another IPC namespace have their own."""
    return {"boot": boot_id(), "namespace": Path("/proc/self/ns/ipc").stat().st_ino}


def _exists(semaphore: int) -> bool:
    return bool(_libc.semctl(semaphore, 0, _GETVAL) >= 0)


def _wait(semaphore: int, deadline: float) -> int:
    """Return 0 when it is our turn, else the error number."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise LedgerBusyError("others hold the ledger beyond the deadline: try again")
        seconds = int(left)
        limit = _Timespec(seconds, int((left - seconds) * 1e9))
        if _libc.semtimedop(semaphore, _TAKE, len(_TAKE), ctypes.byref(limit)) == 0:
            return 0
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            return code
