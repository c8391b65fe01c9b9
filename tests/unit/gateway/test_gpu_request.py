"""Whatever the spelling, a create asks for what its author meant, for nothing, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.allocator.request import Request
from ds01.cdi.spec import qualified
from ds01.gateway.engine import ANSWER_S
from ds01.gateway.gpu_request import VISIBLE, Asked, Wish, cuda, judge, loader, read_wait
from ds01.gateway.handlers.gpus import as_asked, patience
from ds01.gateway.refusals import Refused
from ds01.reconcile import labels

NAMES = st.lists(
    st.one_of(
        st.integers(0, 99).map(str),
        st.tuples(st.integers(0, 9), st.integers(0, 6)).map(lambda pair: f"{pair[0]}:{pair[1]}"),
        st.uuids().map(lambda uuid: f"MIG-{uuid}"),
    ),
    min_size=1, max_size=5, unique=True,
)  # fmt: skip
GPU = {"Capabilities": [["gpu"]]}


def read(host: dict[str, Any] | None = None, env: list[str] | None = None) -> Asked:
    """What the rules of create make of these fields."""
    asked, host = Asked(), host or {}
    asked.environment(env or [])
    for device in host.get("Devices", []):
        asked.device(device["PathOnHost"])
    asked.requests += host.get("DeviceRequests", [])
    asked.runtime = host.get("Runtime") == "nvidia"
    return asked


def wish(host: dict[str, Any] | None = None, env: list[str] | None = None) -> Wish | None:
    return judge(read(host, env), [])


def requests(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"DeviceRequests": list(entries)}


def spellings(names: list[str]) -> list[tuple[dict[str, Any], list[str]]]:
    """Every way to say these names."""
    cdi = [f"nvidia.com/gpu={name}" for name in names]
    half = len(names) // 2
    return [
        (requests(GPU | {"DeviceIDs": names}), []),
        (requests(GPU | {"Driver": "nvidia", "DeviceIDs": names}) | {"Runtime": "nvidia"}, [f"{VISIBLE}=all"]),
        (requests(GPU | {"DeviceIDs": names[half:]}, {"Driver": "cdi", "DeviceIDs": cdi[:half]}), []),
        (requests({"Driver": "cdi", "DeviceIDs": cdi}), [f"{VISIBLE}=void"]),
        ({"Devices": [{"PathOnHost": name} for name in cdi]}, []),
        ({"Runtime": "nvidia"}, [f"{VISIBLE}=none", f"{VISIBLE}={','.join(names)}"]),
    ]


@given(NAMES)
def test_names_mean_these_devices_in_every_spelling(names: list[str]):
    for host, env in spellings(names):
        found = wish(host, env)
        assert found is not None, (host, env)
        assert (set(found.request.devices), found.request.count) == (set(names), len(names)), (host, env)


@given(st.lists(st.integers(1, 16), min_size=1, max_size=4))
def test_numbers_are_one_number(counts: list[int]):
    found = wish(requests(*(GPU | {"Count": count} for count in counts)))
    assert found == Wish(Request(count=sum(counts)))


@pytest.mark.parametrize(
    ("host", "env"),
    [
        (requests(GPU | {"Count": -1}), []),
        (requests(GPU | {"Count": -7}), []),
        (requests({"Driver": "nvidia", "DeviceIDs": ["all"]}), []),
        (requests({"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}), []),
        ({"Runtime": "nvidia"}, [f"{VISIBLE}=all"]),
    ],
)
def test_all_is_all(host: dict[str, Any], env: list[str]):
    assert wish(host, env) == Wish(Request(count=None))


@pytest.mark.parametrize(
    ("host", "env", "said"),
    [
        ({}, [f"{VISIBLE}=all"], True),
        ({}, [f"{VISIBLE}=void"], False),
        ({}, [VISIBLE], False),
        ({"Runtime": "nvidia"}, [], True),
        ({"Runtime": "nvidia"}, [f"{VISIBLE}=none"], False),
        ({"Devices": [{"PathOnHost": "/dev/nvidiactl"}]}, [], True),
        (requests(GPU), [], True),
        (requests({"Capabilities": [["tpu"]], "Count": 1}), [], True),
        (requests({"Driver": "amd", "Count": 1, **GPU}), [], True),
        (requests({"Driver": "cdi", "DeviceIDs": ["vendor.com/net=0"]}), [], True),
    ],
)
def test_what_gives_no_gpu_is_left_out_and_told(host: dict[str, Any], env: list[str], *, said: bool):
    warnings: list[str] = []
    assert judge(read(host, env), warnings) is None
    assert bool(warnings) == said


@pytest.mark.parametrize(
    "host",
    [
        requests(GPU | {"Count": 1, "DeviceIDs": ["0"]}),
        requests(GPU | {"Count": 1}, GPU | {"DeviceIDs": ["0"]}),
        requests(GPU | {"Count": -1}, GPU | {"Count": 1}),
        requests(GPU | {"DeviceIDs": ["../0"]}),
        requests(GPU | {"Count": 1 << 60}),
        requests(GPU | {"Count": 1, "Options": {"profile": "many"}}),
        requests(GPU | {"Count": 1, "Options": {"memory": "20"}}),
        requests(GPU | {"DeviceIDs": ["0"], "Options": {"full": "true"}}),
        requests(GPU | {"Count": 1, "Options": {"full": "x"}}),
        requests(
            GPU | {"Count": 1, "Options": {"profile": "1g.10gb"}}, GPU | {"Count": 1, "Options": {"profile": "2g.20gb"}}
        ),
        requests({"Driver": "cdi", "DeviceIDs": [qualified("a" * 32), qualified("b" * 32)]}),
        requests({"Driver": "cdi", "DeviceIDs": [qualified("a" * 32), "nvidia.com/gpu=0"]}),
    ],
)
def test_what_contradicts_itself_is_refused(host: dict[str, Any]):
    with pytest.raises(Refused) as error:
        wish(host)
    assert error.value.status == 400
    assert error.value.fix


def test_a_path_of_a_gpu_names_it_only_where_nothing_else_does():
    nodes = {"Devices": [{"PathOnHost": path} for path in ("/dev/nvidia2", "/dev/nvidiactl", "/dev/nvidia-uvm")]}
    assert wish(nodes) == Wish(Request(count=1, devices=("2",)))
    warnings: list[str] = []
    assert judge(read(nodes | requests(GPU | {"Count": 1})), warnings) == Wish(Request())
    assert "/dev/nvidia2" in warnings[0]


def test_a_grant_is_taken_by_its_token():
    token = "a" * 32
    for host in (
        requests({"Driver": "cdi", "DeviceIDs": [qualified(token)]}),
        {"Devices": [{"PathOnHost": qualified(token)}]},
    ):
        found = wish(host)
        assert found is not None
        assert found.token == token


@given(st.lists(st.text(max_size=40) | st.from_regex(r"(NVIDIA|CUDA|AMD)_[A-Z_]{1,20}=.{0,9}", fullmatch=True)))
def test_an_environment_keeps_all_that_no_runtime_reads(env: list[str]):
    asked = Asked()
    kept = asked.environment(env)
    assert not any(entry.partition("=")[0] in {VISIBLE, "NVIDIA_DRIVER_CAPABILITIES"} for entry in kept)
    ordinary = [entry for entry in env if not entry.startswith(("NVIDIA_", "CUDA_VISIBLE", "AMD_", "DOCKER_"))]
    assert [entry for entry in kept if entry in ordinary] == ordinary


def test_a_key_of_nvidias_services_is_no_gpu():
    assert Asked().environment(["NVIDIA_API_KEY=x", "NVIDIA_TF32_OVERRIDE=0"]) == [
        "NVIDIA_API_KEY=x",
        "NVIDIA_TF32_OVERRIDE=0",
    ]


@pytest.mark.parametrize(
    ("value", "devices", "kept"),
    [
        ("0", 1, True),
        ("", 1, True),
        ("-1", 2, True),
        ("1,0", 2, True),
        ("1", 1, False),
        ("GPU-1", 1, False),
        ("7", 0, True),
    ],
)
def test_a_choice_among_the_containers_own_devices_stays(value: str, devices: int, *, kept: bool):
    asked, warnings = Asked(), []
    asked.environment([f"CUDA_VISIBLE_DEVICES={value}"])
    assert bool(cuda(asked, devices, warnings)) == kept
    assert bool(warnings) != kept


SAFE = ["/usr/local/cuda/lib64", "/usr/local/nvidia/lib", "/opt/conda/lib/", "/lib/x86_64-linux-gnu", "/usr"]
UNSAFE = [
    "",
    ".",
    "/",
    "/proc/self/cwd",
    "/home/alice/lib",
    "/usr/../proc/self/cwd",
    "/usr/./x/..",
    "/tmp",
    "/scratch/a",
    "lib",
    "/usrx",
    "//usr",
    "$ORIGIN",
    "/usr/$LIB",
    "/usr\n/x",
    "/optional",
    "/usr//../..",
]
LOADED = ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"]
PATHS = st.lists(st.sampled_from(SAFE + UNSAFE), max_size=4)
VARIABLES = st.lists(
    st.builds(
        lambda name, parts, between: f"{name}={between.join(parts)}",
        st.sampled_from([*LOADED, "LD_PRELOADED", "A"]), PATHS, st.sampled_from(":;"),
    ) | st.sampled_from(LOADED)
)  # fmt: skip


@given(VARIABLES, VARIABLES)
def test_a_loader_of_root_finds_nothing_of_a_persons(image: list[str], given_: list[str]):
    warnings: list[str] = []
    found = loader(given_, image, warnings)
    assert [entry for entry in found if entry.partition("=")[0] not in LOADED] == [
        entry for entry in given_ if entry.partition("=")[0] not in LOADED
    ]
    for name in LOADED:
        said = [entry.partition("=")[2] for entry in (*image, *given_) if entry.partition("=")[0] == name]
        entries = [entry.partition("=")[2] for entry in found if entry.partition("=")[0] == name]
        assert len(entries) == bool(any(said)), "the last word over an image that says something"
        parts = said[-1].replace(";", ":").split(":") if said and said[-1] else []
        kept = [part for part in parts if part in SAFE] if name == "LD_LIBRARY_PATH" else []
        assert entries in ([], [":".join(kept)])
        assert bool([text for text in warnings if text.startswith(f"{name}: ")]) == (kept != parts)


@given(
    st.one_of(
        st.builds(
            Request,
            count=st.none() | st.integers(1, 64),
            memory_bytes=st.integers(0, 1 << 40),
            profile=st.none() | st.sampled_from(["1g.10gb", "1g.10gb+me", "3g.40gb"]),
        ),
        st.builds(Request, full=st.sampled_from([True]), count=st.integers(1, 8)),
        NAMES.map(Request.named),
    )
)
def test_what_the_owner_sees_can_be_sent_again(request: Request):
    label = labels.write(request.as_dict())
    stored = {
        "Config": {"Labels": {labels.NAME: label}},
        "HostConfig": {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": [qualified("a" * 32)]}]},
    }
    shown = as_asked(stored)
    assert wish(shown["HostConfig"]) == Wish(request)
    assert stored["HostConfig"]["DeviceRequests"][0]["Driver"] == "cdi", "what the engine said is not changed"


def test_others_containers_are_shown_as_they_are():
    for found in ([], {}, {"HostConfig": {"DeviceRequests": [{"Driver": "", "Count": -1}]}}):
        assert as_asked(found) == found


@pytest.mark.parametrize("value", ["10", "", "0s", "25h", "1h 30", "-5m", "ten"])
def test_a_wait_is_a_duration_with_a_unit(value: str):
    with pytest.raises(Refused) as refused:
        read_wait(value)
    assert "null" not in (refused.value.fix or ""), "a label has none"
    assert read_wait("10m") == 600


@pytest.mark.parametrize(
    ("asked", "own", "seconds"), [(None, None, 10), (None, 60, 60), (None, 0, 0), ("30", 60, 30), ("0", 60, 0)]
)
def test_a_restart_gives_a_program_the_time_that_was_asked_for(asked: str | None, own: int | None, seconds: int):
    assert patience(asked, own) == seconds


@pytest.mark.parametrize("asked", ["-1", "7200"])
def test_a_restart_without_an_end_ends_before_the_engine_is_given_up(asked: str):
    assert 60 < patience(asked, None) < ANSWER_S
