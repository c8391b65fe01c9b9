"""CDI specs in a folder of a test, and what must hold between them and the ledger at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ds01.cdi.files import SpecFiles
from ds01.cdi.spec import devices_of
from ds01.ledger import View
from ds01.ledger.specs import held


def spec_files(folder: Path, uuids: Iterable[str]) -> SpecFiles:
    """Return where specs are, with a base that names these devices."""
    live = folder / "cdi"
    live.mkdir()
    nodes = [{"name": uuid, "containerEdits": {"deviceNodes": [{"path": f"/dev/{uuid}"}]}} for uuid in uuids]
    base = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "containerEdits": {}, "devices": nodes}
    (live / "nvidia.json").write_text(json.dumps(base))
    return SpecFiles(live=live, kept=folder / "kept", bases=(live,))


def given(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the devices that each spec in one folder gives, by token."""
    files = sorted(folder.glob("ds01.io-gpu-*.json"))
    return {path.stem.removeprefix("ds01.io-gpu-"): devices_of(json.loads(path.read_text())) for path in files}


def check_specs(specs: SpecFiles, view: View) -> bool:
    """Fail where a spec names what its claim does not hold; return whether all that is held can be used."""
    now = held(view)
    for folder in (specs.live, specs.kept):
        found = given(folder)
        for token, uuids in found.items():
            assert set(uuids) <= set(now.get(token, ())), f"the spec of {token} in {folder} names {uuids}"
        named = [uuid for uuids in found.values() for uuid in uuids]
        assert len(named) == len(set(named)), "two specs name one device"
    return given(specs.live) == given(specs.kept) == now
