"""Who has too many connections waiting stays outside."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ds01.gateway.flood import WAITING, Flood, access_list
from ds01.gateway.listener import SHARED, bind
from ds01.gateway.people import Person
from ds01.gateway.refusals import Refused

ALICE, BOB = 1001, 1002
ACL = "system.posix_acl_access"


def test_the_list_names_users_in_order_and_keeps_the_mode():
    raw = access_list(0o664, {BOB: 1, ALICE: 1})
    version, *fields = struct.unpack("<I" + "HHI" * 6, raw)
    entries = list(zip(fields[::3], fields[1::3], fields[2::3], strict=True))
    nobody = 0xFFFFFFFF
    assert version == 2
    assert entries == [
        (1, 6, nobody), (2, 0, ALICE), (2, 0, BOB), (4, 6, nobody), (16, 6, nobody), (32, 4, nobody),
    ]  # fmt: skip


class Known:
    """People: all are administrators, or none; or nobody knows them."""

    def __init__(self, *, admin: bool, unknown: bool = False) -> None:
        self.admin = admin
        self.unknown = unknown

    async def person(self, uid: int) -> Person:
        if self.unknown:
            raise Refused(403, "nobody", "identity.unknown")
        return Person(uid, uid, f"u{uid}", "/", frozenset(), frozenset())

    async def is_admin(self, _: Person) -> bool:
        return self.admin


class Log:
    """Keeps who was recorded."""

    def __init__(self) -> None:
        self.said: list[tuple[str | None, Any]] = []

    async def record(self, _type: str, caller: Any, _subject: Any, _decision: str, **fields: Any) -> str:
        self.said.append((caller and caller.actor()["user"], fields["details"]["uid"]))
        return "id"


class Door:
    """The rule, before a gateway that counts who gets in."""

    def __init__(self, path: Path, known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = Log()
        self.flood = Flood(path, known, self.log)  # type: ignore[arg-type]
        self._uid = 0
        monkeypatch.setattr("ds01.gateway.flood.credentials", lambda _: (1, self._uid))

    def come(self, uid: int, number: int = 1) -> int:
        """Let connections of somebody be accepted in one go; returns how many got in."""
        self._uid = uid
        admitted = self.flood.sift([socket.socket() for _ in range(number)])
        for connection in admitted:
            connection.close()
        return len(admitted)

    async def judged(self) -> None:
        """Let what was begun come to its end."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Known, Callable[[Door], Awaitable[None]]], None]:
    """Runs something with the rule on a socket that listens."""

    def run(known: Known, act: Callable[[Door], Awaitable[None]]) -> None:
        async def main() -> None:
            with bind(tmp_path / SHARED):
                await act(Door(tmp_path / SHARED, known, monkeypatch))

        asyncio.run(main())

    return run


def attributes(path: Path) -> list[str]:
    return os.listxattr(path)


def test_who_has_too_many_waiting_is_shut_out_until_the_end(run: Callable[..., None], tmp_path: Path):
    path = tmp_path / SHARED

    async def act(door: Door) -> None:
        assert door.come(ALICE, WAITING + 5) == 0
        await door.judged()
        assert door.log.said == [(f"u{ALICE}", ALICE)]
        assert attributes(path) == [ACL]
        assert path.stat().st_mode & 0o777 == 0o666
        # What was in the backlog already; others are as before.
        assert door.come(ALICE) == 0
        assert door.come(BOB) == 1
        door.flood.end()
        assert attributes(path) == []

    run(Known(admin=False), act)


def test_who_connects_often_but_waits_for_answers_is_not(run: Callable[..., None], tmp_path: Path):
    async def act(door: Door) -> None:
        for _ in range(5):
            assert door.come(ALICE, WAITING) == WAITING
        await door.judged()
        assert (door.log.said, attributes(tmp_path / SHARED)) == ([], [])

    run(Known(admin=False), act)


def test_one_who_does_it_again_stays_outside_longer(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    async def act(door: Door) -> None:
        lengths: list[float] = []
        loop = asyncio.get_running_loop()
        opens: list[Callable[[], None]] = []

        def later(seconds: float, call: Callable[[int], None], uid: int) -> Any:
            lengths.append(seconds)
            opens.append(lambda: call(uid))
            return type("Timer", (), {"cancel": lambda _: None})()

        monkeypatch.setattr(loop, "call_later", later)
        now = 100.0
        monkeypatch.setattr("ds01.gateway.flood.time.monotonic", lambda: now)
        for gap in (1.0, 1.0, 1.0, 1.0, 61.0, 0.0):
            door.come(ALICE, WAITING + 1)
            await door.judged()
            now += lengths[-1] + gap
            opens.pop()()
        assert lengths == [10, 20, 40, 80, 80, 10]

    run(Known(admin=False), act)


@pytest.mark.parametrize(("uid", "admitted"), [(0, WAITING + 5), (ALICE, 0)])
def test_root_and_administrators_are_never_shut_out(run: Callable[..., None], tmp_path: Path, uid: int, admitted: int):
    async def act(door: Door) -> None:
        assert door.come(uid, WAITING + 5) == admitted
        await door.judged()
        assert (door.come(uid), door.log.said, attributes(tmp_path / SHARED)) == (1, [], [])

    run(Known(admin=True), act)


def test_one_whom_nobody_knows_is_shut_out(run: Callable[..., None]):
    async def act(door: Door) -> None:
        door.come(99_999, WAITING + 1)
        await door.judged()
        assert (door.come(99_999), door.log.said) == (0, [(None, 99_999)])
        door.flood.end()

    run(Known(admin=False, unknown=True), act)


def test_a_process_begins_with_nobody_shut_out(run: Callable[..., None], tmp_path: Path):
    path = tmp_path / SHARED

    async def act(door: Door) -> None:
        door.come(ALICE, WAITING + 1)
        await door.judged()
        assert attributes(path) == [ACL]
        Flood(path, Known(admin=False), Log())  # type: ignore[arg-type]
        assert attributes(path) == []

    run(Known(admin=False), act)


def test_without_access_lists_it_is_said_once(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(95, os.strerror(95))

    async def act(door: Door) -> None:
        door.come(ALICE, WAITING + 1)
        await door.judged()
        assert (door.come(ALICE), len(door.log.said)) == (0, 1)
        assert caplog.text.count("by the kernel") == 1

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "removexattr", refuse)
    run(Known(admin=False), act)
