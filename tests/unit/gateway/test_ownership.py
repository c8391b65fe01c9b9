"""What a name means to its owner, as a search through everything would find it, whatever came and went before."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.engine.owners import SUFFIX
from ds01.gateway.engine import Engine
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused
from ds01.ledger import Ledger, create

# Ids that begin alike, and names that read like the beginning of one.
IDS = st.sampled_from([f"{start}{'0' * 58}" for start in ("abc123", "abc124", "abd000", "c0ffee")])
NAMES = st.sampled_from(["web", "db", "abc", "c0ffee", "abc123" + "0" * 58])
UIDS = st.sampled_from([1000, 1001])
STEPS = st.lists(st.tuples(st.sampled_from(["note", "note", "removed"]), IDS, NAMES, UIDS), max_size=12)

Rows = dict[str, tuple[str, int]]


def meant(rows: Rows, typed: str, uid: int) -> str | None:
    """The id that something typed means: whole id, own spelling, engine's spelling, beginning of an id."""
    mine = {engine_id: name for engine_id, (name, owner) in rows.items() if owner == uid}
    if typed in mine:
        return typed
    for wanted in (f"{typed}{SUFFIX}{uid}", typed):
        if named := [engine_id for engine_id, name in mine.items() if name == wanted]:
            return named[0]
    matches = [engine_id for engine_id in mine if engine_id.startswith(typed)]
    return matches[0] if len(matches) == 1 else None


@given(STEPS)
def test_a_name_means_what_a_search_through_everything_finds(steps: list[tuple[str, str, str, int]]):
    rows: Rows = {}

    async def play(ownership: Ownership) -> None:
        for step, engine_id, short, uid in steps:
            if step == "removed":
                rows.pop(engine_id, None)
                await ownership.removed("container", engine_id)
            elif (there := rows.get(engine_id)) is None or there[1] == uid:
                # The engine has no two of a name, and nobody gets another's.
                name = f"{short}{SUFFIX}{uid}"
                if name not in {row[0] for other, row in rows.items() if other != engine_id}:
                    rows[engine_id] = (name, uid)
                    await ownership.note("container", engine_id, name, uid)
        spellings = {*rows, *(engine_id[:length] for engine_id in rows for length in (1, 3, 6))}
        spellings |= {name for name, _ in rows.values()} | {name.rpartition(SUFFIX)[0] for name, _ in rows.values()}
        for uid in (1000, 1001):
            assert dict(ownership.owned("container", uid)) == {
                engine_id: name for engine_id, (name, owner) in rows.items() if owner == uid
            }
            for typed in spellings:
                try:
                    found = (await ownership.resolve("container", typed, uid))[0]
                except Refused:
                    found = None
                assert found == meant(rows, typed, uid), (typed, rows)
        assert ownership.owners("container") == {uid for _, uid in rows.values()}

    with tempfile.TemporaryDirectory() as place:
        ownership = Ownership(Ledger(Path(place) / "ledger.db"), Engine("/nowhere"))
        try:
            asyncio.run(play(ownership))
        finally:
            ownership.close()


def test_what_changes_meanwhile_changes_no_list_that_somebody_has(tmp_path: Path):
    async def play(ownership: Ownership) -> list[str]:
        for name in ("a", "b"):
            await ownership.note("volume", name, name, 1000)
        seen = []
        for engine_id, _ in ownership.owned("volume", 1000):
            await ownership.note("volume", f"{engine_id}2", f"{engine_id}2", 1000)
            seen.append(engine_id)
        return seen

    ownership = Ownership(Ledger(tmp_path / "ledger.db"), Engine("/nowhere"))
    try:
        assert asyncio.run(play(ownership)) == ["a", "b"]
    finally:
        ownership.close()


class HasOne:
    """An engine that has one volume, whatever it said of its end."""

    async def get(self, *segments: str) -> SimpleNamespace:
        return SimpleNamespace(ok=segments == ("volumes", "again"))


def test_a_volume_that_was_made_again_outlives_the_news_of_its_end(tmp_path: Path):
    async def play(ownership: Ownership) -> None:
        for kind, name in (("volume", "again"), ("volume", "gone"), ("network", "net")):
            await ownership.note(kind, name, name, 1000)
        async with ownership.creating(1000):
            # While somebody makes one nobody can say that it is not there; of what is never made again, at once.
            for kind, name in (("volume", "again"), ("volume", "gone"), ("network", "net")):
                ownership.destroyed(kind, name)
            await asyncio.sleep(0)
            assert (len(ownership.owned("volume", 1000)), ownership.owned("network", 1000)) == (2, [])
        assert ownership._noting is not None
        await ownership._noting
        assert ownership.owned("volume", 1000) == [("again", "again")]

    ownership = Ownership(Ledger(tmp_path / "ledger.db"), HasOne())
    try:
        asyncio.run(play(ownership))
    finally:
        ownership.close()


def test_when_hundreds_go_at_once_the_ledger_still_answers_and_hears_of_each(tmp_path: Path):
    names = [f"{number:064x}" for number in range(300)]
    create(tmp_path / "ledger.db")

    async def play(ownership: Ownership) -> None:
        for name in names:
            await ownership.note("container", name, f"{name}{SUFFIX}1000", 1000)
        for name in names[:-1]:
            ownership.destroyed("container", name)
        # What the ledger was not told yet is gone all the same, and others have their answer.
        with pytest.raises(Refused):
            await ownership.resolve("container", names[1], 1000)
        assert ownership.owned("container", 1000) == [(names[-1], f"{names[-1]}{SUFFIX}1000")]
        assert len(await ownership._known_to_ledger(ownership._listing)) > 1
        assert ownership._noting is not None
        await ownership._noting
        assert [row.engine_id for row in await ownership._known_to_ledger(ownership._listing)] == names[-1:]

    ownership = Ownership(Ledger(tmp_path / "ledger.db"), Engine("/nowhere"))
    try:
        asyncio.run(play(ownership))
    finally:
        ownership.close()
