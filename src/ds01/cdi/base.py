"""Find the spec that NVIDIA's toolkit wrote for the GPUs of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .spec import CdiError

DIRECTORIES: Final = (Path("/run/cdi"), Path("/etc/cdi"))
"""Where the engine looks for specs; of two that name the same device it takes the one in the first."""
_BASE_KIND: Final = "nvidia.com/gpu"
_SUFFIXES: Final = frozenset({".json", ".yaml", ".yml"})


def read_base(directories: Sequence[Path] = DIRECTORIES) -> Mapping[str, Any]:
    """Return the base spec.

    Raises:
        CdiError: There is none, or what is there cannot be read.
    """
    broken = []
    for directory in directories:
        for path in sorted(directory.glob("*")):
            if path.suffix not in _SUFFIXES or not path.is_file():
                continue
            try:
                spec = read_spec(path)
            except CdiError as error:
                broken.append(str(error))
                continue
            if spec.get("kind") == _BASE_KIND:
                return spec
    places = " or ".join(map(str, directories))
    found = f" ({'; '.join(broken)})" if broken else ""
    raise CdiError(
        f"no CDI spec of {_BASE_KIND} in {places}{found}:"
        " as root, `nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml` writes it"
    )


def read_spec(path: Path) -> dict[str, Any]:
    """Return the content of a spec file.

    Raises:
        CdiError: It cannot be read, or holds no spec.
    """
    import yaml  # noqa: PLC0415 - most callers read our own files, which are JSON

    try:
        text = path.read_text(encoding="utf-8")
        # NVIDIA writes YAML, some packagers JSON; JSON is the faster one to read.
        spec = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=yaml.CSafeLoader)
    except OSError as error:
        raise CdiError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise CdiError(f"{path}: neither YAML nor JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(spec, dict):
        raise CdiError(f"{path}: holds no CDI spec")
    return spec
