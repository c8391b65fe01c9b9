"""The comparison of a real GPU with the simulator: simulated servers take the place of the real one here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.nvmlsim import NvmlsimError, models
from lab.process import ROOT
from tests.gpu import conformance


@pytest.mark.parametrize("model", models())
@pytest.mark.parametrize("slots", [None, [], [("3g", 4), ("2g", 0), ("1g", 2)]])
def test_a_server_is_like_its_own_copy(nvml_server, model, slots):
    names = {profile["shape"]: profile["name"] for profile in models()[model]["profiles"]}
    wanted = None if slots is None else {0: [(names[shape], start) for shape, start in slots]}
    nvml_server([model], wanted)
    real = conformance.ask({})
    assert sum("place" in question and question.startswith("MIG") for question in real[0]) == len(slots or [])
    simulated = conformance.ask_simulator(real)
    assert [list(conformance.differences(*pair)) for pair in zip(real, simulated, strict=True)] == [[]]


def test_what_differs_is_named_with_both_answers(nvml_server):
    nvml_server(["A100-80", "H100-80"])
    ampere, hopper = conformance.ask({})
    found = "\n".join(conformance.differences(ampere, hopper))
    assert "architecture: the GPU answers 7, the simulator 9" in found
    assert "field average power: the GPU answers NotSupported (an error), the simulator some int" in found
    assert "uuid" not in found


def test_memory_may_differ_a_little_and_nothing_else():
    def pair(question, one, other):
        return list(conformance.differences({question: {"value": one}}, {question: {"value": other}}))

    assert pair("profile 2 memory", 40192, 40448) == []
    assert len(pair("profile 2 memory", 40192, 19968)) == 1
    assert len(pair("cores", 6912, 6913)) == 1


def test_a_question_that_only_one_can_be_asked_is_a_difference():
    (text,) = conformance.differences({"MIG device 0: name": {"value": "x"}}, {})
    assert text == "MIG device 0: name: the GPU answers x, the simulator nothing, the question does not arise"


def test_a_model_that_is_not_simulated_is_named():
    answers = {"name": {"value": "NVIDIA B300"}, "MIG mode": {"value": [0, 0]}}
    with pytest.raises(NvmlsimError, match="NVIDIA B300: not among the models"):
        conformance.ask_simulator([answers])


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch):
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.conformance"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("nothing was compared: ")


def test_the_whole_comparison_ends_well_where_both_agree(nvml_server):
    nvml_server(["H200-141", "A100-40"], {1: ["2g.10gb", "3g.20gb"]})
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.conformance"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^2 GPUs, \d{3} questions, 0 differences$", done.stdout, re.MULTILINE)


def test_it_calls_nothing_that_changes_a_gpu():
    called = set(re.findall(r"pynvml\.(nvml(?!Memory)[A-Z]\w+)", Path(conformance.__file__).read_text()))
    readers = re.compile(r"nvml(Init|Shutdown|(Device|GpuInstance)(Get|Is)\w+|GpmQuery\w+)")
    assert {name for name in called if not readers.fullmatch(name)} == set()


def test_answers_survive_being_written_down(nvml_server):
    nvml_server(["A100-80"], {0: ["1g.10gb"]})
    answers = conformance.ask({})
    assert json.loads(json.dumps(answers)) == answers
