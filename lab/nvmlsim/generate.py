"""Write the C tables that the library is built with: models, and a stub for each NVML function that it lacks."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
MODELS = HERE / "models.toml"

_ARCHITECTURES = {"ampere": "AMPERE", "hopper": "HOPPER"}


class BuildError(Exception):
    """Why the library cannot be built."""


def pynvml_path() -> Path:
    """Where nvidia-ml-py is: in this Python, or in the one that `make venv` makes.

    Raises:
        BuildError: It is not installed.
    """
    spec = importlib.util.find_spec("pynvml")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin)
    for path in HERE.parent.parent.glob(".venv/lib/python3*/site-packages/pynvml.py"):
        return path
    raise BuildError("nvidia-ml-py is not installed: `make venv` installs it")


def known_names() -> set[str]:
    """Each function that nvidia-ml-py looks up in the library."""
    text = pynvml_path().read_text(encoding="utf-8")
    return set(re.findall(r"""_nvmlGetFunctionPointer\(["'](nvml\w+)["']\)""", text))


def implemented() -> set[str]:
    """Each NVML function that the C sources define, directly or by one of their macros."""
    names: set[str] = set()
    for path in SOURCES.glob("*.c"):
        text = path.read_text(encoding="utf-8")
        names |= set(re.findall(r"^EXPORT [\w ]+?\*?\b(nvml[A-Z]\w*)\(", text, re.MULTILINE))
        names |= set(re.findall(r"^(?:CONSTANT|PROCESS_LIST)\((nvml[A-Z]\w*),", text, re.MULTILINE))
    return names


def stubs() -> str:
    """C source in which each function that is missing answers NOT_SUPPORTED, whatever its parameters are."""
    lines = [f"EXPORT nvmlReturn_t {name}(void) {{ return NVML_ERROR_NOT_SUPPORTED; }}" for name in _missing()]
    return "\n".join(('#include "nvml.h"', *lines, ""))


def models() -> str:
    """C source of the table of models, with a fingerprint of it and of the state's layout."""
    data = tomllib.loads(MODELS.read_text(encoding="utf-8"))
    layout = (SOURCES / "state.h").read_bytes() + MODELS.read_bytes()
    fingerprint = hashlib.sha256(layout).hexdigest()[:16]
    rows = ",\n".join(_model(key, model, data["shapes"]) for key, model in data["models"].items())
    return (
        f'#include "state.h"\nconst uint64_t FINGERPRINT = 0x{fingerprint}ULL;\n'
        f"const model_t MODELS[] = {{\n{rows}\n}};\nconst unsigned MODEL_COUNT = {len(data['models'])};\n"
    )


def _missing() -> list[str]:
    return sorted(known_names() - implemented())


def _model(key: str, model: dict[str, Any], shapes: dict[str, Any]) -> str:
    profiles = ", ".join(_profile(profile, shapes[profile["shape"]]) for profile in model["profiles"])
    fields = {
        "key": f'"{key}"',
        "name": f'"{model["name"]}"',
        "architecture": _ARCHITECTURES[model["architecture"]],
        "capability": _list(model["capability"]),
        "pci_device": model["pci_device"],
        "pci_subsystem": model["pci_subsystem"],
        "memory_mib": model["memory"],
        "sm": model["multiprocessors"],
        "cores": model["cores"],
        "bus_width": model["bus_width"],
        "idle_watts": model["power"][0],
        "limit_watts": model["power"][1],
        "sm_clock": model["clocks"][0],
        "memory_clock": model["clocks"][1],
        "pcie_generation": model["pcie_generation"],
        "profiles": f"{{{profiles}}}",
        "profile_count": len(model["profiles"]),
    }
    return _record(fields)


def _profile(profile: dict[str, Any], shape: dict[str, Any]) -> str:
    copy, decoder, jpeg, ofa = profile["engines"]
    fields = {
        "name": f'"{profile["name"]}"',
        "argument": shape["argument"],
        "id": shape["id"],
        "compute": shape["compute"],
        "memory": shape["memory"],
        "starts": _list(shape["starts"]),
        "start_count": len(shape["starts"]),
        "most": shape["most"],
        "memory_mib": profile["memory"],
        "sm": profile["sm"],
        "copy": copy,
        "decoder": decoder,
        "jpeg": jpeg,
        "ofa": ofa,
    }
    return _record(fields)


def _record(fields: dict[str, Any]) -> str:
    return "{" + ", ".join(f".{name} = {value}" for name, value in fields.items()) + "}"


def _list(values: list[int]) -> str:
    return "{" + ", ".join(map(str, values)) + "}"
