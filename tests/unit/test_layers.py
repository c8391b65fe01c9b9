"""Who may import whom: what travels inside Ansible modules needs nothing but Python, and nothing imports upwards."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "ds01"
TRAVELS = (
    "engine",
    "events",
    "files",
    "fileset",
    "host",
    "locks",
    "mountinfo",
    "mig_geometry",
    "problems",
    "slices",
    "storage",
    "users",
)
# From the bottom up. What is not named here belongs to the top.
LAYERS = (
    "policy",
    "cdi",
    "gpu",
    "mig",
    "ledger",
    "reconcile",
    "allocator",
    "monitor",
    "lifecycle",
    "api",
    "notify",
    "gateway",
    "enforce",
    "cli",
)


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a file imports, also late and for types only."""
    package = ["ds01", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")]
            name = ".".join(filter(None, module))
            # `from .. import events` names a module, too.
            yield from (f"{name}.{alias.name}" for alias in node.names) if not node.module else [name]


def files(name: str) -> list[Path]:
    return sorted((SOURCE / name).rglob("*.py")) or [SOURCE / f"{name}.py"]


@pytest.mark.parametrize("name", TRAVELS)
def test_what_travels_to_hosts_needs_only_python_and_its_own_kind(name):
    for path in files(name):
        for module in imports(path):
            top, _, rest = module.partition(".")
            ours = top == "ds01" and rest.partition(".")[0] in TRAVELS
            assert ours or top in sys.stdlib_module_names, f"{path.relative_to(SOURCE)} imports {module}"


@pytest.mark.parametrize("name", TRAVELS)
def test_what_travels_to_hosts_finds_its_own_kind_relatively(name):
    for path in files(name):
        assert "from ds01" not in path.read_text(), path.relative_to(SOURCE)


@pytest.mark.parametrize("name", [layer for layer in LAYERS if (SOURCE / layer).is_dir()])
def test_no_package_imports_one_above_it(name):
    above = LAYERS[LAYERS.index(name) + 1 :]
    for path in files(name):
        for module in imports(path):
            top, _, rest = module.partition(".")
            assert top != "ds01" or rest.partition(".")[0] not in above, f"{path.relative_to(SOURCE)} imports {module}"
