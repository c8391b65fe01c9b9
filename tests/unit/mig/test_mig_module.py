"""The Ansible module: what it reports, in check mode and without it, and how it fails."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ds01.mig import saved

ROOT = Path(__file__).parents[3]


@pytest.fixture
def module(capfd, monkeypatch):
    """Run the module with a layout; returns its JSON."""
    # What Ansible packs beside a module: our helpers under its own name.
    helpers = importlib.util.spec_from_file_location(
        "ansible.module_utils.ds01_module", ROOT / "module_utils" / "ds01_module.py"
    )
    import ds01.problems  # noqa: PLC0415 - the package that Ansible would copy

    monkeypatch.setitem(sys.modules, "ansible.module_utils.ds01", ds01)
    monkeypatch.setitem(sys.modules, "ansible.module_utils.ds01.problems", ds01.problems)
    frame = importlib.util.module_from_spec(helpers)
    helpers.loader.exec_module(frame)
    monkeypatch.setitem(sys.modules, "ansible.module_utils.ds01_module", frame)
    spec = importlib.util.spec_from_file_location("ds01_mig_layout", ROOT / "library" / "ds01_mig_layout.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)

    def run(layout: dict[str, list[str]], *, check: bool = False) -> dict:
        parts = {gpu: [{"profile": name, "start": None} for name in names] for gpu, names in layout.items()}
        allocation = {"enable_mig": True, "mig_profile": None, "mig_layout": parts}
        with patch_module_args({"allocation": allocation, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            loaded.main()
        return json.loads(capfd.readouterr().out)

    return run


def test_check_mode_shows_what_then_happens_and_a_second_run_changes_nothing(module, make_host):
    host = make_host(["A100-80"] * 2, {1: ["7g.80gb"]})
    layout = {"0": ["3g.40gb"], "1": ["7g.80gb"]}
    predicted = module(layout, check=True)
    assert host.layout(0) == "whole"
    assert predicted["changed"]
    done = module(layout)
    assert done["diff"] == predicted["diff"]
    assert done["diff"]["before"].startswith("GPU 0: whole\n")
    assert done["diff"]["after"].startswith("GPU 0: 3g.40gb@")
    assert not module(layout)["changed"]
    assert not module(layout, check=True)["changed"]


def test_who_is_in_the_way_is_a_warning_and_not_a_failure(module, make_host):
    host = make_host(["A100-80"] * 2, {0: ["7g.80gb"]})
    process = host.use("0:0")
    answer = module({"0": ["1g.10gb"], "1": ["7g.80gb"]})
    assert "failed" not in answer
    assert f"process {process.pid}" in str(answer["warnings"])
    assert host.layout(1) == ["7g.80gb@0"]


def test_a_broken_gpu_does_not_keep_the_rest_from_the_host(module, make_host):
    host = make_host(["A100-80"] * 2)
    host.server.fault(0, "lost", 1)
    answer = module({"0": ["1g.10gb"], "1": ["7g.80gb"]})
    assert "failed" not in answer
    assert "GPU 0" in str(answer["warnings"])
    assert host.layout(1) == ["7g.80gb@0"]


@pytest.mark.parametrize("check", [True, False])
def test_failures_are_messages(module, make_host, check):
    host = make_host(["A100-80"])
    assert "there is no room for 4g.40gb" in module({"0": ["4g.40gb", "4g.40gb"]}, check=check)["msg"]
    saved.DIRECTORY.mkdir(exist_ok=True)
    (saved.DIRECTORY / "desired.json").write_text("{")
    assert "desired.json" in module({"0": ["4g.40gb"]}, check=check)["msg"]
    host.server.unload_driver()
    answer = module({"0": ["4g.40gb"]}, check=check)
    assert answer["failed"]
    assert "modprobe nvidia" in answer["msg"]
