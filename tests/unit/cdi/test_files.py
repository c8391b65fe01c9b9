import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ds01.cdi.files import SpecFiles
from ds01.cdi.spec import CdiError
from tests.unit.cdi.nvidia import UUIDS, base

ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture
def specs(tmp_path: Path) -> SpecFiles:
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "nvidia.yaml").write_text(yaml.safe_dump(base()))
    return SpecFiles(live=tmp_path / "live", kept=tmp_path / "kept", bases=(tmp_path / "live", tmp_path / "etc"))


def live(specs: SpecFiles, token: str) -> Path:
    return specs.live / f"ds01.io-gpu-{token}.json"


@pytest.mark.parametrize("name", ["nvidia.yaml", "nvidia.json", "x.yml"])
def test_a_spec_is_written_from_a_base_in_any_form(specs: SpecFiles, name: str) -> None:
    (specs.live / "nvidia.yaml").unlink()
    (specs.live / "another.yaml").write_text(yaml.safe_dump(base(kind="example.org/nic")))
    text = json.dumps(base()) if name.endswith("json") else yaml.safe_dump(base())
    (specs.live / name).write_text(text)
    specs.write(ONE, UUIDS[:1])
    assert specs.given() == {ONE: (UUIDS[0],)}
    assert live(specs, ONE).stat().st_mode & 0o777 == 0o600
    assert specs.kept.stat().st_mode & 0o777 == 0o700


def test_a_removed_spec_is_nowhere(specs: SpecFiles) -> None:
    specs.write(ONE, UUIDS[:1])
    assert specs.remove(ONE)
    assert not specs.remove(ONE)
    assert specs.given() == {}


@pytest.mark.parametrize("broken", [None, "{", "- 1", "kind: nvidia.com/gpu\ndevices: {}\ncdiVersion: 0.5.0\n"])
def test_without_a_good_base_nothing_starts(specs: SpecFiles, broken: str | None) -> None:
    specs.write(ONE, UUIDS[:1])
    base_file = specs.live / "nvidia.yaml"
    base_file.unlink()
    if broken is not None:
        base_file.write_text(broken)
    with pytest.raises(CdiError, match="nvidia-ctk"):
        specs.write(ONE, UUIDS[1:2])
    assert not live(specs, ONE).exists(), "the older spec still gives the device that was held before"


def test_after_a_reboot_the_files_are_what_the_leases_say(specs: SpecFiles) -> None:
    specs.write(ONE, UUIDS[:1])
    specs.write(TWO, UUIDS[1:])
    for path in specs.live.glob("ds01*"):
        path.unlink()
    assert specs.given() == {ONE: (UUIDS[0],), TWO: UUIDS[1:]}, "the kept copies say what was held"
    changed, problems = specs.sync({TWO: UUIDS[1:]}, base())
    assert (changed, problems) == ([ONE, TWO], [])
    assert not live(specs, ONE).exists()
    assert live(specs, TWO).exists()
    assert specs.sync({TWO: UUIDS[1:]}, base()) == ([], [])


def test_a_new_driver_reaches_the_specs(specs: SpecFiles) -> None:
    specs.write(ONE, UUIDS[:1])
    newer: dict[str, Any] = base()
    newer["containerEdits"] = newer["containerEdits"] | {"env": ["DRIVER=2"]}
    (specs.live / "nvidia.yaml").write_text(yaml.safe_dump(newer))
    assert specs.sync({ONE: UUIDS[:1]}, newer) == ([ONE], [])
    assert json.loads(live(specs, ONE).read_text())["containerEdits"]["env"] == ["DRIVER=2"]


def test_one_claim_that_cannot_have_a_spec_keeps_no_other_from_it(specs: SpecFiles) -> None:
    changed, problems = specs.sync({ONE: ("MIG-gone",), TWO: UUIDS[:1]}, base())
    assert changed == [TWO]
    assert len(problems) == 1
    assert "MIG-gone" in str(problems[0])


def test_a_file_of_somebody_else_is_left_alone(specs: SpecFiles) -> None:
    for name in ("ds01.io-gpu-short.json", f"ds01.io-gpu-{ONE}.yaml", "vendor.json"):
        (specs.live / name).write_text("{}")
    before = sorted(specs.live.iterdir())
    specs.sync({}, base())
    assert sorted(specs.live.iterdir()) == before


def test_a_token_leads_nowhere_else(specs: SpecFiles) -> None:
    with pytest.raises(CdiError, match="not a token"):
        specs.remove("../../etc/passwd")
