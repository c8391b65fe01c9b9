"""End what uses a GPU outside containers without the right to: closing devices leaves open what is open already.

What ran before the first grant of all is left alone: nobody was told that it would end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from ds01 import events
from ds01.gpu.attribution import attribute, person
from ds01.mig.holders import openers
from ds01.slices.desired import LoginSpec
from ds01.slices.people import exempt_uids, unknown_uids

GRACE_S: Final = 30.0
"""Between SIGTERM and SIGKILL: time to save."""
_GONE_S: Final = 5.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Held:
    """A process that is to end, held by a descriptor: a later one with its number is never meant."""

    descriptor: int
    pid: int
    uid: int
    command: str


def evict(
    data: LoginSpec,
    granted: Callable[[], Collection[int] | None],
    first: int | None,
    *,
    whom: Collection[int] | None = None,
    grace_s: float = GRACE_S,
) -> list[str]:
    """End the processes of people without exemption or grant that have a GPU open; return a line about each.

    Args:
        data: Who is exempt.
        granted: Says the uids of those with a grant now, or None where nobody can: then nobody is judged.
        first: When the first grant was made, UTC ms: what started before it is left alone. None: everything is.
        whom: Only processes of these uids; None: of everybody.
        grace_s: Time between SIGTERM and SIGKILL, in seconds.
    """
    found = [] if first is None else _found(data, granted, first, whom)
    try:
        for one in found:
            _send(one, signal.SIGTERM)
        left = _wait(found, grace_s)
        for one in left:
            _send(one, signal.SIGKILL)
        stuck = {one.pid for one in _wait(left, _GONE_S)}
        killed = {one.pid for one in left}
        return [_say(one, killed=one.pid in killed, stuck=one.pid in stuck) for one in found]
    finally:
        for one in found:
            os.close(one.descriptor)


def _found(
    data: LoginSpec, granted: Callable[[], Collection[int] | None], first: int, whom: Collection[int] | None
) -> list[_Held]:
    # From the clock since boot: one that is set meanwhile changes nobody's fate.
    first_s = time.clock_gettime(time.CLOCK_BOOTTIME) - (time.time() - first / 1000)
    found = []
    # Each minute, with whom it may be: whose a process is takes much less time than what it has open.
    among = None if whom is None else lambda pid: attribute(pid).uid in whom
    for pid in sorted({pid for pids in openers(among).values() for pid in pids}):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            origin = attribute(pid)
            uid, started = origin.uid, origin.start_ticks
            if origin.kind == "user" and uid is not None and started is not None and started / _TICKS >= first_s:
                found.append(_Held(descriptor, pid, uid, origin.command))
            else:
                os.close(descriptor)
    uids = {one.uid for one in found}
    # After the search, which takes its time: who got a grant meanwhile has begun by right.
    now = granted()
    # Whom the name services do not know now is not judged.
    may = uids if now is None else {0, *now} | exempt_uids(data, uids) | unknown_uids(uids)
    for one in found:
        if one.uid in may:
            os.close(one.descriptor)
    return [one for one in found if one.uid not in may]


def _send(one: _Held, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(one.descriptor, number)


def _wait(those: list[_Held], seconds: float) -> list[_Held]:
    """Return which of them still run after that time at most."""
    end, left = time.monotonic() + seconds, list(those)
    while left and (rest := end - time.monotonic()) > 0:
        # A pidfd can be read when its process has ended.
        poll = select.poll()
        for one in left:
            poll.register(one.descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(rest * 1000)}
        left = [one for one in left if one.descriptor not in ready]
    return left


def _say(one: _Held, *, killed: bool, stuck: bool) -> str:
    name = person(one.uid)
    how = "could not be ended" if stuck else "was killed" if killed else "ended"
    reason = f"{name} may not use the GPUs of the host (any more); it {how}"
    events.record(
        "lifecycle.stop",
        actor=events.this_process("enforce"),
        subject={"kind": "process", "name": one.command, "id": str(one.pid)},
        decision="failed" if stuck else "stopped",
        rule="bare_metal",
        reason=reason,
        fix="Use a GPU in a container, or ask an administrator for more time.",
        details={"uid": one.uid, "user": name},
    )
    return f"process {one.pid} of {name}: {reason}"
