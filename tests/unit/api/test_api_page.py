"""docs/api.md says what is there: every resource, what may be given to it, and the keys of its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ds01 import events
from ds01.api import resources
from ds01.api.call import Asker
from ds01.api.desk import Desk
from ds01.engine.api import Engine
from ds01.ledger import Ledger
from ds01.policy import Policy
from tests.unit.ledger.conftest import path

__all__ = ["path"]
PAGE = Path(__file__).parents[3] / "docs" / "api.md"
ROW = re.compile(r"\| `(?P<what>(?:GET|POST|DELETE) [^`]+)` \| (?P<answer>[^|]*) \| (?P<given>[^|]*) ?\|")
ROWS = {found["what"]: found for found in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
ROOT = Asker(0, "root", admin=True, via="command")


def words(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", text)))


@pytest.fixture
def desk(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "journal")
    tables = Policy.model_validate({"default_group": "student", "groups": {"student": {"members": ["games"]}}}).tables
    with Ledger(path) as ledger:
        yield Desk(tables, ledger, specs=False, engine=Engine(tmp_path / "none"))


def test_every_resource_is_there_with_its_parameters():
    there = {f"{one.method} {one.path}": {*one.query, *one.body} for one in resources.RESOURCES}
    assert {what: words(row["given"]) for what, row in ROWS.items()} == there


def answered(desk: Desk, what: str, *path: str, **given: Any) -> None:
    method = what.split(" ", maxsplit=1)[0]
    kind = "query" if method != "POST" else "body"
    answer = resources.answer(desk, ROOT, method, path or what.split(" ")[1].split("/"), **{kind: given})
    said = words(ROWS[what]["answer"].partition(", or if")[0])
    [first] = {frozenset(one) for one in answer} if isinstance(answer, list) else [frozenset(answer)]
    assert first == said, what


def test_answers_have_the_keys_that_it_names(desk: Desk):
    for what in ("GET me", "GET limits", "GET usage", "GET status", "GET gpus", "GET events", "GET health"):
        answered(desk, what)
    answered(desk, "POST gpus/why", user="games", request={"count": 1})
    for count in range(3):
        answered(desk, "POST leases", user="games", request={"devices": [f"1:{count}"], "count": 1})
    queued = resources.answer(desk, ROOT, "POST", ["leases"], body={"request": {"profile": "2g.20gb"}, "wait_s": 60})
    assert set(queued) == words(ROWS["POST leases"]["answer"].partition(", or if")[2])
    answered(desk, "GET queue")
    answered(desk, "DELETE queue/{number}", "queue", str(queued["queued"]))
    token = resources.answer(desk, ROOT, "GET", ["leases"], query={"user": "games"})[0]["holder"]["token"]
    answered(desk, "GET containers/{name}/why", "containers", token, "why")
    answered(desk, "DELETE leases/{name}", "leases", token)
    window = {"starts": 4_070_908_800_000, "ends": 4_070_912_400_000}
    answered(desk, "POST reservations", user="games", **window)
    answered(desk, "GET reservations")
    answered(desk, "DELETE reservations/{number}", "reservations", "1")
    answered(desk, "POST grants", user="games", seconds=60, reason="a test")
    answered(desk, "GET grants")
    answered(desk, "DELETE grants/{number}", "grants", "1")
