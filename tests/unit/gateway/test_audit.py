"""Refusals in the event log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ds01 import events
from ds01.gateway.audit import _REFUSALS_MAX, Audit
from ds01.gateway.people import Caller, Person
from ds01.gateway.refusals import Refused


def somebody(uid: int) -> Caller:
    return Caller(Person(uid, uid, f"u{uid}", "/", frozenset(), frozenset()), admin=False, via="docker.sock")


def test_one_who_is_refused_ever_anew_does_not_fill_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events.jsonl")
    refusal = Refused(403, "no", "some.rule")

    async def main() -> tuple[int, str | None, str | None]:
        audit = Audit()
        told = [
            await audit.refused(somebody(7), "GET /x", "x", f"name-{number}", refusal)
            for number in range(_REFUSALS_MAX + 50)
        ]
        other = await audit.refused(somebody(8), "GET /x", "x", "name", refusal)
        done = await audit.record("container.remove", somebody(7), {"kind": "container"}, "allowed")
        audit.close()
        return sum(one is not None for one in told), other, done

    written, other, done = asyncio.run(main())
    assert 0 < written <= _REFUSALS_MAX
    assert other
    assert done
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == written + 2
