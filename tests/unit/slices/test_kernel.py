"""Reading cgroup files: the formats of both versions, as kernels print them."""

import threading
from pathlib import Path

import pytest

from ds01.slices.kernel import MIXED, Cgroups, Disk, differences, find_disks

DISKS = (Disk("/dev/sda", "8:0"), Disk("/dev/sdb", "8:16"))
NAME = "ds01-student-alice.slice"
PATH = "ds01.slice/ds01-student.slice/ds01-student-alice.slice"


def tree(root: Path, files: dict[str, str]) -> Cgroups:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Cgroups(root, DISKS)


def test_version_2(tmp_path: Path):
    cgroups = tree(
        tmp_path,
        {
            "cgroup.controllers": "cpuset cpu io memory pids\n",
            f"{PATH}/memory.max": "209715200\n",
            f"{PATH}/memory.high": "max\n",
            f"{PATH}/memory.swap.max": "0\n",
            f"{PATH}/pids.max": "200\n",
            f"{PATH}/cpu.max": "50000 100000\n",
            f"{PATH}/cpu.weight": "50\n",
            f"{PATH}/io.weight": "default 200\n8:0 300\n",
            f"{PATH}/io.bfq.weight": "default 109\n",
            f"{PATH}/io.max": "8:0 rbps=1000 wbps=max riops=max wiops=max\n8:16 rbps=1000 wbps=5 riops=max wiops=max\n",
        },
    )
    assert cgroups.read(NAME) == {
        "memory_max": 209715200,
        "memory_high": None,
        "swap_max": 0,
        "tasks_max": 200,
        "max_cpus": 0.5,
        "cpu_weight": 50,
        "io_weight": 200,
        "io_read_bps": 1000,
        "io_write_bps": MIXED,
    }


def test_version_2_without_the_controllers_in_the_slice(tmp_path: Path):
    cgroups = tree(tmp_path, {"cgroup.controllers": "cpu memory pids", f"{PATH}/cgroup.procs": ""})
    assert cgroups.read(NAME) == {
        "memory_max": None,
        "memory_high": None,
        "tasks_max": None,
        "max_cpus": None,
        "cpu_weight": 100,
    }


def test_version_1(tmp_path: Path):
    cgroups = tree(
        tmp_path,
        {
            f"systemd/{PATH}/cgroup.procs": "",
            f"memory/{PATH}/memory.limit_in_bytes": "9223372036854771712\n",
            f"pids/{PATH}/pids.max": "max\n",
            f"cpu/{PATH}/cpu.cfs_quota_us": "150000\n",
            f"cpu/{PATH}/cpu.cfs_period_us": "100000\n",
            f"cpu/{PATH}/cpu.shares": "512\n",
            f"blkio/{PATH}/blkio.throttle.read_bps_device": "8:0 1000\n8:16 1000\n",
            f"blkio/{PATH}/blkio.throttle.write_bps_device": "",
        },
    )
    assert cgroups.read(NAME) == {
        "memory_max": None,
        "tasks_max": None,
        "max_cpus": 1.5,
        "cpu_weight": 50,
        "io_read_bps": 1000,
        "io_write_bps": None,
    }


def test_live_slices_are_those_that_systemd_made(tmp_path: Path):
    scope = f"{PATH}/docker-1.scope/system.slice/ds01-student-eve.slice"
    cgroups = tree(tmp_path, {"cgroup.controllers": "", f"{scope}/cgroup.procs": "", "user.slice/x": ""})
    assert list(cgroups.live_slices("ds01.slice")) == ["ds01.slice", "ds01-student.slice", NAME]
    assert list(cgroups.live_slices("nothing.slice")) == []


@pytest.mark.parametrize(
    ("key", "actual", "wanted", "same"),
    [
        ("memory_max", 209715200, 209715200 + 4095, True),
        ("memory_max", 209715200, 209715200 + 4096, False),
        ("memory_max", None, 1, False),
        ("memory_max", 1, None, False),
        ("memory_max", None, None, True),
        ("swap_max", 0, 0, True),
        ("swap_max", None, 0, False),
        ("max_cpus", 0.33333, 0.3333, True),
        ("max_cpus", 0.5, 0.51, False),
        ("cpu_weight", 100, None, True),
        ("cpu_weight", 49, 50, True),
        ("cpu_weight", 40, 50, False),
        ("io_read_bps", MIXED, 1000, False),
        ("tasks_max", 200, 201, False),
    ],
)
def test_same_or_not(key: str, actual: float | None, wanted: float | None, same: bool):
    assert (differences({key: wanted}, {key: actual}) == {}) is same


def test_what_the_kernel_does_not_have_is_left_out():
    assert differences({"memory_high": 5}, {"memory_max": 5}) == {}


def test_slices_are_found_while_containers_end(tmp_path: Path):
    busy = tmp_path / PATH / "docker-1.scope/init"
    cgroups = tree(tmp_path, {"cgroup.controllers": "", f"{PATH}/cgroup.procs": ""})
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            busy.mkdir(parents=True)
            busy.rmdir()
            busy.parent.rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        found = [list(cgroups.live_slices("ds01.slice")) for _ in range(2000)]
    finally:
        over.set()
        thread.join()
    assert all(names == ["ds01.slice", "ds01-student.slice", NAME] for names in found)


def test_disks_are_built_in_and_have_a_node(tmp_path: Path):
    disk, optical = "0\n", "5\n"
    for name, device, kind, node in (
        ("sda", "pci0000:00/ata1", disk, True),
        ("sdb", "pci0000:00/ata2", disk, False),
        ("sdc", "pci0000:00/usb1/1-1", disk, True),
        ("sr0", "pci0000:00/ata3", optical, True),
        ("nvme0n1", "pci0000:00/nvme/nvme0", "", True),
        ("dm-0", "", "", True),
        ("loop0", "", "", True),
        ("md0", "", "", True),
    ):
        entry = tmp_path / "sys/block" / name
        entry.mkdir(parents=True)
        (entry / "dev").write_text("8:0\n")
        # A disk in a hot-swap bay: built in all the same.
        (entry / "removable").write_text("1\n")
        if device:
            place = tmp_path / "sys/devices" / device
            place.mkdir(parents=True)
            (entry / "device").symlink_to(place)
            if kind:
                (place / "type").write_text(kind)
        if node:
            (tmp_path / "dev").mkdir(exist_ok=True)
            (tmp_path / "dev" / name).touch()
    (tmp_path / "sys/block/md0/md").mkdir()
    assert [disk.path for disk in find_disks(tmp_path)] == ["/dev/md0", "/dev/nvme0n1", "/dev/sda"]


@pytest.mark.parametrize(
    ("marker", "folder", "prefix"), [("cgroup.controllers", "", ""), ("memory/tasks", "memory/", "total_")]
)
def test_memory_in_use_is_that_of_programs(tmp_path: Path, marker: str, folder: str, prefix: str):
    stat = f"cache 9\nrss 3\nanon 5\nfile 9\nshmem 2\n{prefix}rss 5\n{prefix}shmem 2\n"
    cgroups = tree(tmp_path, {marker: "memory\n", f"{folder}{PATH}/memory.stat": stat})
    assert cgroups.memory_needed(NAME) == 7
    assert cgroups.memory_needed("ds01-student-nobody.slice") == 0
