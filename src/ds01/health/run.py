"""All checks of a host, in the order in which their findings explain each other."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial, update_wrapper
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from ..policy import PolicyError, load_policy
from ..policy.slicespec import slice_spec
from ..slices.desired import LoginSpec
from ..slices.spec import SliceSpec
from . import engine, files, gateway, gpus, host, kernel, logins, monitor, privacy, services, storage
from .model import Check, failed, ok, warning

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from ..policy import LoadedPolicy

T = TypeVar("T")
_Try: TypeAlias = Callable[[], Check]
_AT_ONCE: Final = 8
"""Checks mostly wait: for systemd, the engine, a disk."""
_PATIENCE_S: Final = 420.0
"""All checks together. One of the gateway may take four minutes by its own clock, on a machine that has much to do."""
_ANSWER_S: Final = 30.0
"""For those that answered to be told when others did not."""
_HANGS: Final = "no answer within {:.0f} s: something that it asks hangs"
_TEXT_MAX: Final = 400
_BROKEN_FIX: Final = "Mend what else is found, then look again; `dmesg | tail` shows what the kernel says."


class _Broken(str):
    """What broke in another process."""

    __slots__ = ()


class _Alone(partial[Check]):
    """A check that makes slices, and looks at them, while no other one makes any: half of one is no finding."""


def run_checks(policy_file: Path, *, allow_cgroup_v1: bool) -> list[Check]:
    """Run every check. Needs root; takes some seconds, because limits are tried out, and minutes at most.

    Args:
        policy_file: The policy in force on this host.
        allow_cgroup_v1: This is a test host whose kernel has no cgroup v2.
    """
    deadline = time.monotonic() + _PATIENCE_S
    try:
        # The gateway's check forks, so it has a process without threads.
        gateways = _apart(partial(_found, gateway.check_gateway))
        through = update_wrapper(lambda: gateways(deadline), gateway.check_gateway)
        # A process does not end before all of its threads do, and the one that asks a driver that hangs never does.
        look = _apart(partial(_look, policy_file, deadline, through, allow_cgroup_v1=allow_cgroup_v1))
        return look(deadline + _ANSWER_S)
    except OSError as error:
        return [failed("health", f"nothing could be looked at: {error}", _BROKEN_FIX)]


def _look(policy_file: Path, deadline: float, through_gateway: _Try, *, allow_cgroup_v1: bool) -> list[Check]:
    policy_check, policy = _check_policy(policy_file)
    first: list[_Try] = [files.check_permissions, partial(kernel.check_cgroups, allow_v1=allow_cgroup_v1)]
    if policy is not None:
        now = dt.datetime.now(dt.UTC)
        spec = SliceSpec.from_dict(slice_spec(policy.policy, now))
        first += [
            _Alone(partial(kernel.check_slices, spec, now)),
            _Alone(partial(kernel.check_newcomer, spec)),
            partial(storage.check_mounts, policy.policy),
            partial(storage.check_directories, policy.policy),
            _Alone(partial(logins.check_devices, LoginSpec.from_dict(policy.policy.tables["logins"]))),
            partial(gpus.check_ledger, policy.policy.tables),
        ]
    first += [_Alone(kernel.check_memory_kill), _Alone(kernel.check_tasks_limit)]
    first += [
        engine.check_engine,
        engine.check_engine_access,
        engine.check_addresses,
        engine.check_builders,
        through_gateway,
    ]
    last: list[_Try] = [gpus.check_nvml, gpus.check_specs, monitor.check_monitor, monitor.check_owners]
    last += [_Alone(privacy.check_privacy), services.check_timers, services.check_jobs]
    last += [host.check_disk, host.check_clock, host.check_escapes]
    return [policy_check, *_together([*first, *last], deadline)]


def _together(checks: Sequence[_Try], deadline: float) -> list[Check]:
    """Return what all checks find, in their order; what breaks or hangs in one of them is its finding."""
    results = [Future[Check]() for _ in checks]
    pairs = list(zip(checks, results, strict=True))
    # In a row of their own, those that hang keep no other one waiting, unless it waits for the same.
    slices = deque(pair for pair in pairs if isinstance(pair[0], _Alone))
    others = deque(pair for pair in pairs if not isinstance(pair[0], _Alone))
    for todo in (slices, *[others] * _AT_ONCE):
        # Not even the end of the program waits for it.
        Thread(target=_work, args=(todo,), daemon=True).start()
    return [_within(deadline, check, result) for check, result in pairs]


def _work(todo: deque[tuple[_Try, Future[Check]]]) -> None:
    while True:
        try:
            check, result = todo.popleft()
        except IndexError:
            return
        result.set_result(_found(check))


def _found(check: _Try) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever breaks on a host that is ill is what was asked for
        return failed(_name(check), f"it could not be looked at: {error!r}"[:_TEXT_MAX], _BROKEN_FIX)


def _within(deadline: float, check: _Try, result: Future[Check]) -> Check:
    try:
        return result.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        return failed(_name(check), _HANGS.format(_PATIENCE_S), _BROKEN_FIX)


def _name(check: _Try) -> str:
    """Return what a check looks at, for a finding that it could not make itself."""
    while isinstance(check, partial):
        check = check.func
    return check.__name__.removeprefix("check_").replace("_", " ")


def _apart(job: Callable[[], T]) -> Callable[[float], T]:
    """Begin something in a process of its own, and return what waits for it until a moment.

    Nobody else waits for that process: one that hangs in the kernel, which not even SIGKILL ends, keeps neither the
    command nor whoever reads what the command says. It is not ended at the moment either, for then it would leave
    behind what it made to look with.
    """
    result, answer = Pipe(duplex=False)
    if os.fork() == 0:
        _be_apart(job, answer)
    answer.close()

    def wait(deadline: float) -> T:
        try:
            if not result.poll(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(_HANGS.format(_PATIENCE_S))
            found: T | _Broken = result.recv()
        except EOFError:
            raise ChildProcessError("what looked at it ended without an answer") from None
        if isinstance(found, _Broken):
            raise ChildProcessError(found)
        return found

    return wait


def _be_apart(job: Callable[[], T], answer: Connection) -> None:
    """Do it, answer, and end: what runs here never returns."""
    with contextlib.suppress(BaseException):
        # What waits for ever is not to be there at the next look, and the next.
        signal.alarm(int(2 * _PATIENCE_S) + 1)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        try:
            answer.send(job())
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            # In words: not every error can be sent, or be made again from what was sent.
            answer.send(_Broken(repr(error)))
    os._exit(0)


def _check_policy(path: Path) -> tuple[Check, LoadedPolicy | None]:
    try:
        loaded = load_policy(path)
    except PolicyError as error:
        detail = "; ".join(str(problem) for problem in error.problems)
        return failed("policy", detail, "Correct it in the inventory and run site.yml; limits stay as they are."), None
    if loaded.warnings:
        detail = "; ".join(str(problem) for problem in loaded.warnings)
        return warning("policy", detail, "Edit the policy in the inventory."), loaded
    return ok("policy", str(path)), loaded
