"""What is planned for a host, decided without one."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from ds01.slices.desired import Logins, LoginSpec, NoSlices, Slices
from ds01.slices.kernel import Cgroups, Disk
from ds01.slices.plan import Host, HostState, Plan, gather, plan
from ds01.slices.spec import SliceSpec

NOW = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)
MB = 1 << 20
DATA: dict[str, Any] = {
    "root": {"slice": "ds01.slice"},
    "unmanaged": {"max_cpus": 0.25, "memory_max": 100 * MB},
    "groups": {
        "student": {"aggregate": {"max_cpus": 0.5, "memory_max": 200 * MB, "tasks_max": 200}, "group_aggregate": {}},
        "faculty": {"aggregate": {"memory_max": 400 * MB, "tasks_max": 100}, "group_aggregate": {"max_cpus": 4}},
    },
    "overrides": {"bob": {"group": "student", "aggregate": {"memory_max": None}, "expires": "2026-06-15"}},
    "members": {"alice": "student", "bob": "student", "dave": "faculty"},
    "unix_groups": {},
    "default_group": "student",
}
STUDENT = {"max_cpus": 0.5, "memory_max": 200 * MB, "tasks_max": 200, "cpu_weight": 100}


def spec(**changes: Any) -> SliceSpec:
    return SliceSpec.from_dict({**DATA, **changes})


def state(files: dict[str, str] | None = None, live: dict[str, Any] | None = None, **changes: Any) -> HostState:
    fields: dict[str, Any] = {"leftovers": (), "disks": (), "reload_pending": False}
    return HostState(files=files or {}, live=live or {}, **{**fields, **changes})


def converged(desired: Slices | Logins) -> dict[str, str]:
    return desired.files((), ())


def planned(todo: Plan) -> list[str]:
    return todo.lines()


def test_a_fresh_host_gets_every_file_and_one_reload():
    todo = plan(Slices(spec(), NOW, {}), state())
    assert sorted(planned(todo)) == sorted(
        [
            "write ds01.slice",
            "write ds01-unmanaged.slice",
            "write ds01-student.slice",
            "write ds01-student-.slice.d/50-limits.conf",
            "write ds01-faculty.slice",
            "write ds01-faculty-.slice.d/50-limits.conf",
            "write ds01-student-bob.slice.d/60-override.conf",
            "reload systemd",
        ]
    )


def test_a_converged_host_gets_nothing():
    desired = Slices(spec(), NOW, {})
    todo = plan(desired, state(converged(desired), {"ds01-student-alice.slice": STUDENT}))
    assert not todo.changed


def test_a_limit_that_only_the_kernel_has_otherwise_is_a_change():
    desired = Slices(spec(), NOW, {})
    todo = plan(desired, state(converged(desired), {"ds01-student-alice.slice": {**STUDENT, "tasks_max": None}}))
    assert planned(todo) == ["reload systemd", "set ds01-student-alice.slice: tasks_max unlimited -> 200"]


def test_what_the_kernel_cannot_limit_is_not_compared():
    desired = Slices(spec(), NOW, {})
    todo = plan(desired, state(converged(desired), {"ds01-student-alice.slice": {"tasks_max": 200}}))
    assert not todo.changed


def test_an_interrupted_run_left_a_reload_to_do():
    desired = Slices(spec(), NOW, {})
    assert planned(plan(desired, state(converged(desired), reload_pending=True))) == ["reload systemd"]


@pytest.mark.parametrize(
    ("now", "in_force"),
    [
        (dt.datetime(2026, 6, 15, 23, 59, tzinfo=dt.UTC), True),
        (dt.datetime(2026, 6, 16, 0, 0, tzinfo=dt.UTC), False),
        # The same moment elsewhere: the date is the UTC one.
        (dt.datetime(2026, 6, 16, 1, 59, tzinfo=dt.timezone(dt.timedelta(hours=2))), True),
    ],
)
def test_an_override_counts_until_the_end_of_its_last_day(now: dt.datetime, in_force: bool):
    desired = Slices(spec(), now, {})
    assert ("ds01-student-bob.slice.d/60-override.conf" in desired.files((), ())) is in_force
    expected = desired.expected("ds01-student-bob.slice")
    assert expected is not None
    assert expected.limits["memory_max"] == (None if in_force else 200 * MB)
    assert expected.limits["tasks_max"] == 200


def test_an_expired_override_is_removed_and_its_live_slice_set():
    before = Slices(spec(), NOW, {}).files((), ())
    live = {"ds01-student-bob.slice": {**STUDENT, "memory_max": None}}
    todo = plan(Slices(spec(), NOW + dt.timedelta(days=1), {}), state(before, live))
    assert planned(todo) == [
        "remove ds01-student-bob.slice.d/60-override.conf",
        "reload systemd",
        f"set ds01-student-bob.slice: memory_max unlimited -> {200 * MB}",
    ]


@pytest.mark.parametrize(("needed", "more"), [(200 * MB, []), (250 * MB, [
    "ds01-student-bob.slice: 250 MiB in use, 200 MiB allowed: the kernel may end programs"])])  # fmt: skip
def test_it_is_said_where_a_smaller_limit_may_end_programs(needed: int, more: list[str]):
    live = {"ds01-student-bob.slice": {**STUDENT, "memory_max": 300 * MB}}
    later = Slices(spec(), NOW + dt.timedelta(days=1), {})
    todo = plan(later, state(converged(later), live, memory={"ds01-student-bob.slice": needed}))
    assert todo.warnings() == more
    assert planned(todo)[2:] == more


def test_somebody_elses_files_stay():
    desired = Slices(spec(), NOW, {})
    files = converged(desired) | {
        "ds01-old.slice": "[Slice]\nMemoryMax=1G\n",
        "ds01-student-eve.slice.d/60-override.conf": "[Slice]\nMemoryMax=1G\n",
    }
    assert not plan(desired, state(files)).changed


def test_files_of_a_group_that_is_gone_are_removed():
    desired = Slices(spec(), NOW, {})
    old = Slices(spec(groups={**DATA["groups"], "archive": {"aggregate": {"tasks_max": 9}}}), NOW, {})
    todo = plan(desired, state(converged(old)))
    assert planned(todo) == [
        "remove ds01-archive.slice",
        "remove ds01-archive-.slice.d/50-limits.conf",
        "reload systemd",
    ]


def moved_text(live: str, **changes: Any) -> str | None:
    return Slices(spec(**changes), NOW, {}).files([live], ()).get(f"{live}.d/60-moved.conf")


def test_a_moved_person_has_the_smaller_of_both_in_the_old_slice():
    text = moved_text("ds01-student-dave.slice")
    assert text is not None
    assert f"MemoryMax={200 * MB}\n" in text
    assert "TasksMax=100\n" in text
    assert "CPUQuota=50%\n" in text
    assert moved_text("ds01-faculty-dave.slice") is None
    assert moved_text("ds01-student-alice.slice") is None


def test_a_moved_person_keeps_the_override_within_the_old_limits():
    text = moved_text("ds01-faculty-bob.slice")
    assert text is not None
    assert f"MemoryMax={400 * MB}\n" in text
    assert "TasksMax=100\n" in text


def test_the_drop_in_of_a_moved_person_goes_with_the_slice():
    desired = Slices(spec(), NOW, {})
    before = desired.files(["ds01-student-dave.slice"], ())
    assert "remove ds01-student-dave.slice.d/60-moved.conf" in planned(plan(desired, state(before)))


def test_people_of_a_group_that_is_gone_are_capped_like_their_new_one():
    text = moved_text("ds01-archive-dave.slice")
    assert text is not None
    assert f"MemoryMax={400 * MB}\n" in text
    text = moved_text("ds01-archive-nobody.slice")
    assert text is not None
    assert f"MemoryMax={200 * MB}\n" in text


def test_a_silent_name_service_is_not_a_change_of_group():
    live = ["ds01-faculty-h.baker\\x40example.org.slice"]
    assert "60-moved" not in str(Slices(spec(), NOW, {}).files(live, ()))
    assert "60-moved" in str(Slices(spec(), NOW, {"h.baker@example.org": "student"}).files(live, ()))
    assert "60-moved" not in str(Slices(spec(), NOW, {"h.baker@example.org": "faculty"}).files(live, ()))


def test_a_members_list_comes_before_the_unix_groups():
    assert Slices(spec(), NOW, {"dave": "student"}).group_of("dave") == "faculty"


def test_an_override_is_put_where_the_host_says_that_the_person_is():
    data = spec(overrides={"n.ito": {"group": "student", "aggregate": {"tasks_max": 7}, "expires": None}})
    assert "ds01-faculty-n.ito.slice.d/60-override.conf" in Slices(data, NOW, {"n.ito": "faculty"}).files((), ())
    assert "ds01-student-n.ito.slice.d/60-override.conf" in Slices(data, NOW, {}).files((), ())


def test_group_caps_are_on_the_slice_of_the_group():
    desired = Slices(spec(), NOW, {})
    assert "CPUQuota=400%\n" in desired.files((), ())["ds01-faculty.slice"]
    expected = desired.expected("ds01-faculty.slice")
    assert expected is not None
    assert expected.limits["max_cpus"] == 4


def test_io_limits_are_given_for_each_disk():
    disks = (Disk("/dev/sda", "8:0"), Disk("/dev/nvme0n1", "259:0"))
    override = {"group": "student", "aggregate": {"io_read_bps": 1000, "io_write_bps": None}, "expires": None}
    text = Slices(spec(overrides={"bob": override}), NOW, {}).files((), disks)[
        "ds01-student-bob.slice.d/60-override.conf"
    ]
    assert text.splitlines()[2:] == [
        "IOReadBandwidthMax=",
        "IOReadBandwidthMax=/dev/sda 1000",
        "IOReadBandwidthMax=/dev/nvme0n1 1000",
        "IOWriteBandwidthMax=",
    ]


@pytest.mark.parametrize(
    ("cpus", "quota"), [(1, "100%"), (0.5, "50%"), (1.25, "125%"), (0.333, "33.3%"), (0.0125, "1.25%"), (100, "10000%")]
)
def test_cpus_are_a_percentage(cpus: float, quota: str):
    text = Slices(spec(unmanaged={"max_cpus": cpus}), NOW, {}).files((), ())["ds01-unmanaged.slice"]
    assert f"CPUQuota={quota}\n" in text


def test_removal_takes_our_files_and_sets_live_slices():
    files = converged(Slices(spec(), NOW, {})) | {"ds01-old.slice": "[Slice]\n"}
    todo = plan(NoSlices(), state(files, {"ds01-student-alice.slice": STUDENT}))
    assert "remove ds01.slice" in planned(todo)
    assert "remove ds01-old.slice" not in planned(todo)
    assert planned(todo)[-1] == "set ds01-student-alice.slice: to what systemd has"
    assert not plan(NoSlices(), state({}, {"ds01-student-alice.slice": STUDENT})).changed


def test_logins_are_capped_except_for_the_exempt():
    logins = Logins(LoginSpec.from_dict({"memory_max": MB, "tasks_max": None, "exempt_users": []}), {1000})
    files = logins.files((), ())
    assert sorted(files) == [f"user-{who}.slice.d/50-ds01.conf" for who in ("", "0", "1000")]
    assert files["user-.slice.d/50-ds01.conf"].endswith(f"[Slice]\nMemoryMax={MB}\n")
    assert "[Slice]" not in files["user-0.slice.d/50-ds01.conf"]
    live = {"user-1000.slice": {"memory_max": MB}, "user-1001.slice": {"memory_max": None}, "user-0.slice": {}}
    assert planned(plan(logins, state(files, live))) == [
        "reload systemd",
        f"set user-1000.slice: memory_max {MB} -> unlimited",
        f"set user-1001.slice: memory_max unlimited -> {MB}",
    ]


def test_logins_without_limits_have_no_file():
    assert Logins(LoginSpec.from_dict({"memory_max": None, "exempt_groups": ["x"]}), {1}).files((), ()) == {}


def test_leftovers_of_killed_runs_are_found_and_foreign_links_are_not_ours(tmp_path: Path):
    directory = tmp_path / "ds01-student-bob.slice.d"
    directory.mkdir()
    (tmp_path / "ds01-empty-x.slice.d").mkdir()
    (directory / ".60-override.conf.0123.ds01-tmp").write_text("half")
    (tmp_path / ".ds01-student.slice.0123.ds01-tmp").write_text("half")
    (tmp_path / "ds01-masked.slice").symlink_to("/dev/null")
    host = Host(units=tmp_path, run=tmp_path, cgroups=tmp_path)
    todo = plan(Slices(spec(), NOW, {}), gather(Slices, host))
    assert [removal.name for removal in todo.removals] == [
        ".ds01-student.slice.0123.ds01-tmp",
        "ds01-empty-x.slice.d",
        "ds01-student-bob.slice.d/.60-override.conf.0123.ds01-tmp",
    ]


def test_a_slice_that_ends_meanwhile_is_not_one_without_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    host = Host(tmp_path / "units", tmp_path / "run", tmp_path / "cgroup")
    place = host.cgroups / "ds01.slice/ds01-student.slice/ds01-student-alice.slice"
    place.mkdir(parents=True)
    (host.cgroups / "cgroup.controllers").write_text("memory")
    read = Cgroups.read

    def ends(self: Cgroups, name: str) -> dict[str, float | int | None]:
        if name == "ds01-student-alice.slice":
            place.rmdir()
        return read(self, name)

    monkeypatch.setattr(Cgroups, "read", ends)
    assert set(gather(Slices, host).live) == {"ds01.slice", "ds01-student.slice"}
