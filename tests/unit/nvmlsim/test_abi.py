"""The binary interface against nvidia-ml-py: sizes, offsets, names."""

from __future__ import annotations

import ctypes
import re
import subprocess

import pynvml

from lab.nvmlsim import build, generate

# Which structure of nvidia-ml-py each of ours is. Where it has other field names (BAR1), the order is what counts.
STRUCTURES = {
    "nvmlMemory_t": pynvml.c_nvmlMemory_t,
    "nvmlMemory_v2_t": pynvml.c_nvmlMemory_v2_t,
    "nvmlBAR1Memory_t": pynvml.c_nvmlBAR1Memory_t,
    "nvmlUtilization_t": pynvml.c_nvmlUtilization_t,
    "nvmlPlacement_t": pynvml.c_nvmlGpuInstancePlacement_t,
    "nvmlProcessInfo_t": pynvml.c_nvmlProcessInfo_v2_t,
    "nvmlProcessUtilizationSample_t": pynvml.c_nvmlProcessUtilizationSample_t,
    "nvmlPciInfo_t": pynvml.nvmlPciInfo_t,
    "nvmlDeviceAttributes_t": pynvml.c_nvmlDeviceAttributes,
    "nvmlGpuInstanceProfileInfo_t": pynvml.c_nvmlGpuInstanceProfileInfo_t,
    "nvmlGpuInstanceProfileInfo_v2_t": pynvml.c_nvmlGpuInstanceProfileInfo_v2_t,
    "nvmlComputeInstanceProfileInfo_t": pynvml.c_nvmlComputeInstanceProfileInfo_t,
    "nvmlComputeInstanceProfileInfo_v2_t": pynvml.c_nvmlComputeInstanceProfileInfo_v2_t,
    "nvmlGpuInstanceInfo_t": pynvml.c_nvmlGpuInstanceInfo_t,
    "nvmlComputeInstanceInfo_t": pynvml.c_nvmlComputeInstanceInfo_t,
    "nvmlFieldValue_t": pynvml.c_nvmlFieldValue_t,
    "nvmlTemperature_t": pynvml.c_nvmlTemperature_v1_t,
    "nvmlViolationTime_t": pynvml.c_nvmlViolationTime_t,
    "nvmlEccErrorCounts_t": pynvml.c_nvmlEccErrorCounts_t,
    "nvmlEventData_t": pynvml.c_nvmlEventData_t,
    "nvmlGpmSupport_t": pynvml.c_nvmlGpmSupport_t,
    "nvmlGpmMetric_t": pynvml.c_nvmlGpmMetric_t,
}


def fields(name: str) -> list[str]:
    """The fields of one of our structures, in order."""
    text = re.sub(r"/\*.*?\*/", "", (generate.SOURCES / "nvml.h").read_text(), flags=re.DOTALL)
    blocks = {found: body for body, found in re.findall(r"typedef struct \{((?:[^{}]|\{[^}]*\})*)\} (\w+);", text)}
    body = re.sub(r"struct \{[^}]*\}", "struct", blocks[name])
    return [
        re.sub(r"\W", "", part.split("[")[0].split()[-1])
        for line in body.split(";")
        if line.strip()
        for part in line.split(",")
    ]


def test_structures_have_the_size_and_the_offsets_that_callers_expect(tmp_path):
    asked = [(name, field) for name in STRUCTURES for field in fields(name)]
    lines = [f'printf("%zu\\n", sizeof({name}));' for name in STRUCTURES]
    lines += [f'printf("%zu\\n", offsetof({name}, {field}));' for name, field in asked]
    source = tmp_path / "abi.c"
    head = '#include <stddef.h>\n#include <stdio.h>\n#include "nvml.h"\n'
    source.write_text(head + "int main(void) {" + "\n".join(lines) + "}\n")
    subprocess.run(["gcc", f"-I{generate.SOURCES}", str(source), "-o", str(tmp_path / "abi")], check=True)
    said = [int(line) for line in subprocess.check_output([tmp_path / "abi"], text=True).split()]
    expected = [ctypes.sizeof(structure) for structure in STRUCTURES.values()]
    for structure in STRUCTURES.values():
        expected += [getattr(structure, name).offset for name, *_ in structure._fields_]
    assert said == expected


def test_metrics_follow_the_head_of_their_request(tmp_path):
    source = tmp_path / "gpm.c"
    source.write_text(
        '#include <stddef.h>\n#include <stdio.h>\n#include "nvml.h"\n'
        'int main(void) { printf("%zu", offsetof(nvmlGpmMetricsGet_t, metrics)); }\n'
    )
    subprocess.run(["gcc", f"-I{generate.SOURCES}", str(source), "-o", str(tmp_path / "gpm")], check=True)
    assert int(subprocess.check_output([tmp_path / "gpm"])) == pynvml.c_nvmlGpmMetricsGet_t.metrics.offset


def test_every_function_that_nvidia_ml_py_calls_is_there():
    library = ctypes.CDLL(str(build.ensure()))
    names = generate.known_names()
    assert len(names) > 400
    assert [name for name in names if not hasattr(library, name)] == []


def test_what_is_not_simulated_says_so():
    library = ctypes.CDLL(str(build.ensure()))
    missing = generate.known_names() - generate.implemented()
    assert missing
    assert {getattr(library, name)() for name in missing} == {pynvml.NVML_ERROR_NOT_SUPPORTED}


def test_nothing_else_is_exported():
    # What leaks out of the library could take the place of a function of the program that loads it.
    listed = subprocess.check_output(["nm", "--dynamic", "--defined-only", build.ensure()], text=True)
    names = {line.split()[-1] for line in listed.splitlines()}
    assert {name for name in names if not re.fullmatch(r"nvml(sim_)?\w+", name)} == set()


def test_return_codes_have_the_numbers_that_callers_know():
    text = (generate.SOURCES / "nvml.h").read_text()
    codes = {name: int(number) for name, number in re.findall(r"(NVML_\w+) = (\d+),", text)}
    assert codes == {name: getattr(pynvml, name) for name in codes}
