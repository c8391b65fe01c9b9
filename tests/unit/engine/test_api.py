"""Where the engine is looked for."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ds01.engine import api


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


@pytest.mark.parametrize("first", ["listens", "stale", "missing"])
def test_the_first_place_where_somebody_listens(first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    moved, shared = tmp_path / "moved.sock", tmp_path / "docker.sock"
    monkeypatch.setattr(api, "ENGINE_SOCKETS", (moved, shared))
    engine = api.Engine(timeout=0.05)
    with listening(shared) as other:
        wanted = other
        if first != "missing":
            wanted = listening(moved)
            if first == "stale":
                wanted.close()
                wanted = other
        assert not engine.answers()
        wanted.settimeout(5)
        wanted.accept()[0].close()
        wanted.close()
    with pytest.raises(api.EngineUnavailableError, match="the engine"):
        engine.info()
