"""Compiled tables are used exactly as long as nothing changed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ds01.policy import PolicyError, cache, load_policy

from .conftest import BASE

TEXT = BASE.replace("members: [alice]", "members_file: m") + "people_files: [people/*.csv]\n"


def kept(policy: Path) -> Path:
    (file,) = cache._cache_files(str(policy))
    return Path(file)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Return a function that loads tables and tells whether they came from the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def load(path: Path):
        before = cache._read(str(kept(path)), str(path))
        time.sleep(2 * cache._CLOCK_TICK)  # A file changed at the same moment would not be kept.
        tables = cache.load_tables(path)
        assert tables == json.loads(json.dumps(load_policy(path).policy.tables))
        return before is not None

    return load


@pytest.fixture
def policy(lab):
    return lab(TEXT, m="alice\n", people__a_dot_csv="login,group\nbob,student\n")


def test_the_second_time_nothing_is_compiled(compiled, policy):
    assert [compiled(policy) for _ in range(3)] == [False, True, True]


def same_length_and_time(path: Path) -> None:
    before = path.stat()
    path.write_text(path.read_text().replace("a", "b"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda base: (base / "policy.yaml").write_text(TEXT + "# more\n"),
        lambda base: (base / "m").write_text("zoe\n"),
        lambda base: same_length_and_time(base / "m"),
        lambda base: (base / "people" / "a.csv").write_text("login,group\ncarol,student\n"),
        lambda base: (base / "people" / "b.csv").write_text("login,group\ndora,student\n"),
        lambda base: (base / "people" / "a.csv").unlink(),
        lambda base: (base / "user-overrides.yaml").write_text("alice: {max_cpus: 1}\n"),
    ],
    ids=[
        "policy",
        "members",
        "same length and time",
        "people",
        "new people file",
        "no people file",
        "customary file",
    ],
)
def test_any_change_of_any_source_is_noticed(compiled, policy, change):
    compiled(policy)
    change(policy.parent)
    assert compiled(policy) is False
    assert compiled(policy) is True


def test_a_policy_that_became_wrong_is_refused(compiled, policy):
    compiled(policy)
    (policy.parent / "m").unlink()
    with pytest.raises(PolicyError):
        cache.load_tables(policy)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": "0.1.0", "sources": 5}',
        '{"version": "0.1.0", "sources": {}, "globs": {}, "tables": {}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_cache_is_ignored(compiled, policy, content):
    compiled(policy)
    file = kept(policy)
    file.write_text(content)
    assert compiled(policy) is False


def test_another_persons_cache_is_not_believed(compiled, policy):
    compiled(policy)
    file = kept(policy)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o666)
    assert compiled(policy) is False
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345)
        assert cache._read(str(file), str(policy)) is None


@pytest.mark.parametrize("home", ["", "relative", "/proc/nothing"])
def test_without_a_place_it_works_all_the_same(monkeypatch, policy, home):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert cache.load_tables(policy)["members"] == {"alice": "student", "bob": "student"}


def test_tables_of_other_code_are_not_used(compiled, policy, monkeypatch):
    compiled(policy)
    monkeypatch.setattr(cache, "_program", lambda: "0.1.0 /opt/ds01/0.1.0-other 1")
    assert compiled(policy) is False


def test_a_pipe_in_its_place_is_ignored(compiled, policy):
    compiled(policy)
    file = kept(policy)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert compiled(policy) is False
    assert compiled(policy) is True


def test_the_cache_of_another_policy_is_not_believed(compiled, policy):
    other = policy.with_name("other.yaml")
    other.write_text(BASE)
    compiled(other)
    compiled(policy)
    file, mine = kept(other), kept(policy)
    mine.unlink()
    mine.symlink_to(file)
    assert compiled(policy) is False


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("change", [lambda file: file.write_text("zoe\n"), Path.unlink], ids=["changed", "removed"])
def test_what_changed_while_it_was_read_is_not_kept(policy, monkeypatch, change):
    def load_and_change(path):
        loaded = load_policy(path)
        change(policy.parent / "m")
        return loaded

    time.sleep(2 * cache._CLOCK_TICK)
    monkeypatch.setattr("ds01.policy.load.load_policy", load_and_change)
    assert "alice" in cache.load_tables(policy)["members"]
    assert not kept(policy).exists()


def test_nothing_is_written_into_the_home_of_somebody_else(policy, monkeypatch, tmp_path):
    if os.geteuid() != 0:
        assert not cache._is_ours("/root/.cache")
        return
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    cache.load_tables(policy)
    assert list(home.iterdir()) == []
