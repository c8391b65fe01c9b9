"""Modules out of zip archives are compiled once, and never taken for one another."""

import os
import subprocess
import sys
import zipfile

import pytest

from lab.process import ROOT


@pytest.fixture
def run(tmp_path):
    source = (ROOT / "lab" / "machine_image" / "lab_bytecode.py").read_text()
    cache = tmp_path / "cache"
    cache.mkdir()
    changed = source.replace('"/var/cache/lab-bytecode"', repr(str(cache))).replace("os.geteuid() == 0", "True")
    (tmp_path / "lab_bytecode.py").write_text(changed)

    def run(content: str) -> str:
        archive = tmp_path / "archive.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("sent.py", content)
        return subprocess.run(
            [sys.executable, "-c", f"import lab_bytecode, sys; sys.path.insert(0, {str(archive)!r}); import sent"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    run.cache = cache
    return run


def test_another_content_is_another_module(run):
    assert run("print('one')") == "one\n"
    assert run("print('two')") == "two\n"
    assert run("print('one')") == "one\n"
    assert len(list(run.cache.iterdir())) == 2


def test_what_was_kept_is_used(run):
    run("print('one')")
    (kept,) = run.cache.iterdir()
    before = kept.stat().st_mtime_ns
    assert run("print('one')") == "one\n"
    assert kept.stat().st_mtime_ns == before


def test_a_damaged_file_is_compiled_again(run):
    run("print('one')")
    (kept,) = run.cache.iterdir()
    kept.write_bytes(b"no byte code")
    assert run("print('one')") == "one\n"
