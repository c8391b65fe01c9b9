"""The policy with 1,000 people: resolving in a process, and the command, against baselines in the same run.

`resolve` is compared with parsing the file anew for each question, as scripts do; the command with an empty Python and
with the command when nothing is compiled yet. The table is the result; only ratios are asserted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from ds01.policy import cache, load_policy, resolve
from tests.bench.timing import median_ms

PEOPLE = 1_000
DS01 = Path(sys.executable).with_name("ds01")
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy for 1,000 people in four groups, every tenth with an override."""
    groups = {f"group{number}": {"members": [f"user{n:04}" for n in range(number, PEOPLE, 4)]} for number in range(4)}
    overrides = {
        f"user{n:04}": {"max_cpus": 2, "reason": "Thesis", "expires": "2099-12-31"} for n in range(0, PEOPLE, 10)
    }
    data = {
        "default_group": "group0",
        "defaults": {"max_gpu_equivalents": 1, "max_cpus": 8, "memory": "32g"},
        "groups": groups,
        "user_overrides": overrides,
    }
    path = tmp_path_factory.mktemp("bench") / "policy.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_policy(policy: Path, tmp_path: Path) -> None:
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    loaded = load_policy(policy).policy

    def command(*arguments: str | Path) -> Callable[[], object]:
        return lambda: subprocess.run([*arguments], env=env, check=True, capture_output=True)

    def uncompiled() -> None:
        for file in tmp_path.rglob("*.json"):
            file.unlink()
        limits()

    limits = command(DS01, "limits", "user0500", "--policy", policy)
    rows = {
        "resolve one of 1,000": median_ms(lambda: resolve(loaded, "user0500", NOW), 2_000),
        "parse the YAML, then look": median_ms(lambda: yaml.load(policy.read_bytes(), Loader=yaml.CSafeLoader)),
        "load and check the policy": median_ms(lambda: load_policy(policy)),
        "load compiled tables": median_ms(lambda: cache.load_tables(policy)),
        "python, nothing else": median_ms(command(sys.executable, "-c", "pass")),
        "ds01 limits, nothing compiled": median_ms(uncompiled),
        "ds01 limits": median_ms(limits),
    }
    print(
        f"\npolicy with {PEOPLE} people, median\n"
        + "\n".join(f"  {name:32}{value:10.3f} ms" for name, value in rows.items())
    )
    assert rows["resolve one of 1,000"] * 20 < rows["parse the YAML, then look"]
    assert rows["ds01 limits"] * 2 < rows["ds01 limits, nothing compiled"]
