"""Containers that the engine tried to start too early, with a real ledger and a socket that answers as the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from ds01.enforce.restart import Restarter
from ds01.engine.api import Engine
from ds01.ledger import Ledger
from ds01.ledger.leases import leases_of
from ds01.reconcile.apply import Outcome
from ds01.reconcile.containers import SeenContainer
from tests.unit.allocator.test_specs import Lab
from tests.unit.ledger.conftest import ledger, path, time
from tests.unit.ledger.machine import Time

__all__ = ["ledger", "path", "time"]


class Answers(BaseHTTPRequestHandler):
    started: list[str]
    code: int

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        type(self).started.append(self.path)
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(b"" if self.code == 204 else b'{"message":"out of order"}')

    def address_string(self) -> str:
        return "test"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[type[Answers]]:
    handler = type("Handler", (Answers,), {"started": [], "code": 204})
    with ThreadingUnixStreamServer(str(tmp_path / "engine.sock"), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler
        server.shutdown()


@pytest.fixture
def lab(ledger: Ledger, tmp_path: Path, time: Time) -> Lab:
    return Lab(ledger, tmp_path, time)


def left_behind(lab: Lab, name: str = "carol") -> SeenContainer:
    """Somebody's container as it is after a boot: the ledger says that it runs, and the engine gave up."""
    token = lab.runs(name)
    return SeenContainer(f"c-{token}", name, running=False, created=0, token=token, ours=True, left_behind=True)


def state(lab: Lab, container: SeenContainer) -> list[str]:
    with lab.ledger.read() as view:
        return [lease.state for lease in leases_of(view, container.token or "")]


def test_it_is_started_once_with_its_devices(lab: Lab, answers: type[Answers], tmp_path: Path) -> None:
    restarter, outcome, found = Restarter(), Outcome(), left_behind(lab)
    lab.files.remove(found.token or "")
    assert restarter.waiting([found]) == [found]
    restarter.start(Engine(tmp_path / "engine.sock"), lab.allocator, found, outcome)
    assert answers.started == [f"/containers/{found.id}/start"]
    assert (len(outcome.lines), outcome.problems) == (1, [])
    assert state(lab, found) == ["running"]
    assert found.token in lab.specs()
    assert restarter.waiting([found]) == []
    assert restarter.waiting([replace(found, left_behind=False)]) == []
    assert restarter.waiting([found]) == [found], "the next boot"


def test_an_engine_that_cannot_is_not_asked_again_and_again(lab: Lab, answers: type[Answers], tmp_path: Path) -> None:
    answers.code = 500
    restarter, outcome, found = Restarter(), Outcome(), left_behind(lab)
    restarter.start(Engine(tmp_path / "engine.sock"), lab.allocator, found, outcome)
    assert "out of order" in outcome.problems[0]
    assert restarter.waiting([found]) == []
    assert state(lab, found) == [], "her devices are not held after a stop"
    assert lab.specs() == {}


def test_a_claim_that_is_over_starts_nothing(lab: Lab, answers: type[Answers], tmp_path: Path) -> None:
    restarter, outcome, found = Restarter(), Outcome(), left_behind(lab)
    lab.allocator.close(found.token or "")
    restarter.start(Engine(tmp_path / "engine.sock"), lab.allocator, found, outcome)
    assert answers.started == []
    assert len(outcome.problems) == 1


def test_until_the_ledger_is_compared_it_waits(lab: Lab, answers: type[Answers], tmp_path: Path) -> None:
    restarter, outcome, found = Restarter(), Outcome(), left_behind(lab)
    with lab.ledger.transaction() as tx:
        tx.set_unverified("restored")
    restarter.start(Engine(tmp_path / "engine.sock"), lab.allocator, found, outcome)
    assert answers.started == []
    assert restarter.waiting([found]) == [found]
