"""The emergency stop chooses what was meant, and nothing that it must not touch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01.cli import stop_all as command
from ds01.cli.main import run
from ds01.ledger import Ledger, leases, objects
from ds01.ledger.devices import devices, occupy
from ds01.ledger.rows import Occupant
from ds01.lifecycle.emergency import Aim, NoSuchDeviceError, Selection, select

OWNERS = (None, 0, 5, 6)
STATES = ("running", "paused", "restarting", "exited", "created")


def inspection(
    number: int, state: str = "running", *, marked: bool = False, device: str | None = None
) -> dict[str, Any]:
    nvidia = {"Driver": "nvidia", "DeviceIDs": [device], "Capabilities": [["gpu"]]}
    return {
        "Id": f"{number:064x}", "Name": f"/c{number}", "Created": "2026-01-01T00:00:00Z",
        "State": {"Status": state, "Running": state in {"running", "paused"}, "Restarting": state == "restarting"},
        "Config": {"Labels": {"ds01.protected": "true"} if marked else {}},
        "HostConfig": {"DeviceRequests": [nvidia] if device else []},
    }  # fmt: skip


def chosen(ledger: Ledger, tables: dict[str, Any], found: list[dict[str, Any]], aim: Aim) -> Selection:
    with ledger.read() as view:
        return select(view, tables, found, aim, reason="smoke", actor={"uid": 0, "user": "root", "via": "test"})


def names(found: Selection) -> set[str]:
    return {act.name for act in found.acts}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.sampled_from(OWNERS), st.sampled_from(STATES), st.booleans()), max_size=8),
    who=st.sampled_from((None, 5, 6, 7)),
)
def test_only_running_containers_of_who_is_meant(
    ledger: Ledger, tables: dict[str, Any], rows: list[tuple[int | None, str, bool]], who: int | None
):
    found = []
    with ledger.transaction() as tx:
        for row in objects.listing(tx, "container"):
            objects.remove(tx, "container", row.engine_id)
        for number, (uid, state, marked) in enumerate(rows):
            found.append(inspection(number, state, marked=marked))
            objects.note(tx, "container", found[-1]["Id"], f"c{number}", uid)
    selection = chosen(ledger, tables, found, Aim(uid=who))
    expected = {
        f"c{number}"
        for number, (uid, state, marked) in enumerate(rows)
        if state in {"running", "paused", "restarting"}
        and uid is not None and (who is None or uid == who)
        and not (marked and uid == 0)
    }  # fmt: skip
    assert names(selection) == expected
    # What runs, is meant and is not stopped is named.
    alone = sum(
        state in {"running", "paused", "restarting"} and (uid is None or (marked and uid == 0))
        for uid, state, marked in rows
    )
    assert len(selection.left) == (alone if who is None else 0)


@pytest.fixture
def used(ledger: Ledger) -> list[dict[str, Any]]:
    """c1 holds 1:0, c2 reaches 0 past DS01, c3 of nobody reaches 1:1 past DS01, c4 has no GPU; a process is on 1:1."""
    with ledger.transaction() as tx:
        uuids = {row.id: row.uuid for row in devices(tx)}
        found = [
            inspection(1), inspection(2, device=uuids["0"]), inspection(3, device=uuids["1:1"]), inspection(4),
            inspection(5, "exited"),
        ]  # fmt: skip
        for number, uid in ((1, 5), (2, 6), (3, None), (4, 5), (5, 5)):
            objects.note(tx, "container", found[number - 1]["Id"], f"c{number}", uid)
        claim = leases.open_claim(tx, uid=5, user="games", group_name="student", priority=10, request="{}")
        leases.grant(tx, claim.token, uuids["1:0"], expires=tx.now + 60_000)
        leases.bind(tx, claim.token, found[0]["Id"], "c1")
        leases.start(tx, claim.token)
        occupy(tx, Occupant("process", "4242:7", uuids["1:1"], "jupyter", 6, tx.now, legacy=False))
    return found


@pytest.mark.parametrize(
    ("device", "expected"),
    [("0", ({"c2"}, 0)), ("1", ({"c1"}, 2)), ("1:0", ({"c1"}, 0)), ("1:1", (set(), 2)), ("1:2", (set(), 0))],
)
def test_a_device_means_whoever_holds_or_reaches_it(
    ledger: Ledger, tables: dict[str, Any], used: list[dict[str, Any]], device: str, expected: tuple[set[str], int]
):
    selection = chosen(ledger, tables, used, Aim(device=device))
    assert (names(selection), len(selection.left)) == expected
    if device == "1:1":
        assert any("sudo kill 4242`" in line for line in selection.left)
        assert any("container c3: nobody's" in line for line in selection.left)


def test_a_device_that_is_not_there_is_an_error(ledger: Ledger, tables: dict[str, Any]):
    with pytest.raises(NoSuchDeviceError, match=r"9:9: no device .* there are 0, 1:0"):
        chosen(ledger, tables, [], Aim(device="9:9"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2), (["--all", "--user", "root"], 2), (["--all", "--reason", " "], 2), (["--all", "--reason", "a\nb"], 2),
        (["--all"], 3),
    ],
)  # fmt: skip
def test_what_is_not_said_clearly_or_by_root_stops_nothing(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run(["stop-all", *arguments]) == code
    assert "rror: " in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "code"), [("stop 3", 0), ("stop 2", 1), ("yes", 1), ("", 1)])
def test_only_the_number_itself_confirms(typed: str, code: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("click.prompt", lambda *_, **__: typed)
    assert command._unconfirmed(3) == code


def test_it_is_an_event_of_whoever_did_it(ledger: Ledger, tables: dict[str, Any], used: list[dict[str, Any]]):
    [act] = chosen(ledger, tables, used, Aim(device="0")).acts
    assert (act.actor or {})["user"] == "root"
    assert (act.rule, act.grace_s) == ("stop-all", tables["container_types"]["unknown"]["sigterm_grace"])
    assert "an administrator stopped it: smoke" in act.line
