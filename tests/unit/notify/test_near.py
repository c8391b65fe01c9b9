"""Who comes near a limit is told, once, in words that say what to do; each limit from where it is really kept."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ds01.ledger import Ledger, disk, lifecycle, objects
from ds01.ledger.leases import grant, open_claim
from ds01.monitor.cgroups import Group
from ds01.notify import measure, near
from tests.unit.ledger.machine import Time
from tests.unit.notify.conftest import Office

ME = pwd.getpwuid(os.getuid())
GIB = 2**30


def group(folder: Path, **files: Any) -> Group:
    """A slice with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")
    return Group(folder.parent, folder.name)


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    monkeypatch.setattr(measure, "slices", lambda: found)
    return found


def look(office: Office) -> list[tuple[str, str]]:
    """One pass; what I am told, all in all."""
    tables = office.tables()
    with office.ledger.read() as view:
        seen = near.look(view, tables)
    with office.ledger.transaction() as tx:
        near.take(tx, tables["notifications"], seen)
    with office.ledger.read() as view:
        return [(one.subject, one.text.partition(" (")[0]) for one in lifecycle.notices(view, ME.pw_uid)]


def test_containers_and_gpus_are_counted_as_the_allocator_does(office: Office):
    office.policy["groups"]["student"] = {
        "max_containers_per_user": 5, "max_mig_instances": 2, "max_gpu_equivalents": 0.6,
    }  # fmt: skip
    with office.ledger.transaction() as tx:
        for number in range(3):
            objects.note(tx, "container", f"c{number}", name=f"c{number}", uid=ME.pw_uid)
    assert look(office) == []
    with office.ledger.transaction() as tx:
        objects.note(tx, "container", "c3", name="c3", uid=ME.pw_uid)
        claim = open_claim(tx, uid=ME.pw_uid, user=ME.pw_name, group_name="student", priority=1, request="{}")
        for index in range(2):
            grant(tx, claim.token, f"MIG-1-{index}", expires=tx.now + 60_000)
    assert look(office) == look(office) == [
        ("max_mig_instances", "You have 2 of 2 GPU devices"),
        ("max_gpu_equivalents", "You have 0.5714 of 0.6 GPUs"),
        ("max_containers_per_user", "You have 4 of 5 containers"),
    ]  # fmt: skip


def test_one_of_one_is_what_was_asked_for(office: Office):
    office.policy["groups"]["student"] = {"max_containers_per_user": 1}
    with office.ledger.transaction() as tx:
        objects.note(tx, "container", "c", name="c", uid=ME.pw_uid)
    assert look(office) == []


def test_memory_that_only_caches_files_is_no_reason(office: Office, slices: dict[str, list[Group]], tmp_path: Path):
    def memory(current: int, cached: int) -> None:
        stat = f"anon 1\ninactive_file {cached * GIB}"
        files = {"memory_current": current * GIB, "memory_max": 10 * GIB, "memory_stat": stat}
        slices[ME.pw_name] = [group(tmp_path / "slice", **files, pids_current=79, pids_max=100)]

    memory(10, 5)
    assert look(office) == []
    memory(10, 1)
    assert look(office) == [("memory", "Your containers need 9.0 of 10.0 GiB memory")]
    slices[ME.pw_name] = [group(tmp_path / "slice", memory_max="max", pids_current=80, pids_max=100)]
    assert look(office)[1:] == [("tasks", "Your containers have 80 of 100 processes and threads")]


def test_cpus_count_when_they_were_taken_for_long(
    office: Office, slices: dict[str, list[Group]], tmp_path: Path, time: Time
):
    used = 0
    for minute in range(35):
        # All of the four from minute 18 on.
        used += 60_000_000 * (4 if minute >= 18 else 1)
        slices[ME.pw_name] = [group(tmp_path / "slice", cpu_stat=f"usage_usec {used}", cpu_max="400000 100000")]
        told = look(office)
        assert bool(told) == (minute >= 30), minute
        time.spend(60_000)
    assert told == [("cpus", "Your containers took 4.0 of 4 CPUs for ten minutes")]
    time.reboot(60_000)
    used = 0
    assert len(look(office)) == 1


def test_a_full_home_is_told_only_where_the_quota_is_what_is_full(office: Office, monkeypatch: pytest.MonkeyPatch):
    office.policy["storage"] = {"home_root": str(Path(ME.pw_dir).parent)}
    office.policy["defaults"] = {"storage": {"home": "10g"}}
    free = {"blocks": 10 * GIB, "left": 3 * GIB}

    class Found:
        f_frsize = 1

        @property
        def f_blocks(self) -> int:
            return free["blocks"]

        @property
        def f_bfree(self) -> int:
            return free["left"]

    monkeypatch.setattr(measure.os, "statvfs", lambda _: Found())
    with office.ledger.transaction() as tx:
        objects.note(tx, "container", "c", name="c", uid=ME.pw_uid)
    assert look(office) == []
    # The disk is full, and it has no quotas.
    free.update(blocks=900 * GIB, left=GIB)
    assert look(office) == []
    free.update(blocks=10 * GIB, left=GIB)
    assert look(office) == [("storage.home", "Your home directory has 9.0 of 10.0 GiB")]


def test_space_is_told_with_what_to_remove(office: Office):
    office.policy["defaults"] = {"storage": {"docker": "10g"}}
    uses = [disk.DiskUse(ME.pw_uid, "volume", "d", "data", 7 * GIB), disk.DiskUse(ME.pw_uid, "image", "i", "net", GIB)]
    with office.ledger.transaction() as tx:
        disk.replace(tx, uses[:1])
    assert look(office) == []
    with office.ledger.transaction() as tx:
        disk.replace(tx, uses)
    assert look(office) == [("storage.docker", "Your containers, volumes and images take 8.0 GiB of 10.0 GiB")]
    with office.ledger.read() as view:
        [told] = lifecycle.notices(view, ME.pw_uid)
    assert "`docker volume rm data` (7.0 GiB); `docker rmi net` (1.0 GiB)" in told.text


def test_what_an_older_pass_remembered_is_forgotten_with_whom_it_was_about(ledger: Ledger, office: Office):
    office.policy["groups"]["student"] = {"max_containers_per_user": 2}
    with ledger.transaction() as tx:
        for number in range(2):
            objects.note(tx, "container", f"c{number}", name=f"c{number}", uid=ME.pw_uid)
    look(office)
    with ledger.transaction() as tx:
        for number in range(2):
            objects.remove(tx, "container", f"c{number}")
    look(office)
    with ledger.read() as view:
        assert view.value("SELECT value FROM meta WHERE key = 'near limits'") == "{}"


def test_a_name_service_that_hangs_keeps_nobody_from_the_ledger(office: Office, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def slow(_tables: object, user: str) -> list[str]:
        with Ledger(office.ledger.path, deadline_s=5) as other, other.transaction() as tx:
            asked.append((user, tx.now > 0))
        return []

    monkeypatch.setattr(near, "unix_groups", slow)
    with office.ledger.transaction() as tx:
        objects.note(tx, "container", "c", name="c", uid=ME.pw_uid)
    office.send()
    assert asked == [(ME.pw_name, True)]
