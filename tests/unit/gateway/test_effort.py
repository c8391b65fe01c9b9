"""What somebody sends costs about as much as it is long: more of it would keep everybody else waiting."""

from __future__ import annotations

import io
import signal
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

from ds01.gateway import dockerfile, jsonbody, recipe, tarball
from ds01.gateway.gpu_request import VISIBLE, Asked, judge
from ds01.gateway.refusals import Refused


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """End what takes more than so much time of the processor: it would take minutes or hours."""

    def end(*_: object) -> NoReturn:
        raise AssertionError(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def planned(content: str) -> Any:
    return recipe.plan(dockerfile.read(content.encode()), {})


def test_a_name_that_is_there_twice_is_found_among_many():
    names = ",".join(f'"{number}":0' for number in range(200_000))
    with within(20), pytest.raises(Refused, match="is there twice"):
        jsonbody.read(f'{{{names},"199999":0}}'.encode())


def test_a_long_directive_is_read():
    with within(20), pytest.raises(Refused, match="escape="):
        planned(f"# escape=x{' ' * 400_000}y\nFROM a\n")


@pytest.mark.parametrize(
    "lines",
    [
        ["ARG A=" + "a" * 50_000, "ARG B=" + "$A" * 20_000],
        ["ARG A=" + "a" * 50_000, *(f"ARG B{number}=$A." for number in range(100))],
        ["ARG A=" + "${B:-" * 9_000 + "x" + "}" * 9_000],
    ],
)
def test_arguments_do_not_grow_without_end(lines: list[str]):
    with within(20), pytest.raises(Refused, match=r"variables|characters"):
        planned("\n".join([*lines, "FROM a"]))


def test_many_records_of_a_header_are_read():
    records = b"6 a=b\n" * 170_000
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    file = header.tobuf() + records + b"\0" * (-len(records) % 512) + tarfile.TarInfo("y").tobuf() + b"\0" * 1024
    with within(20):
        assert [entry.name for entry in tarball.entries(io.BytesIO(file))] == ["y"]


@pytest.mark.parametrize(
    "names", [["a" * (4 << 20)], [f"{number // 9999}:{number % 9999}" for number in range(100_000)]]
)
def test_names_of_gpus_are_judged_however_long_or_many(names: list[str]):
    asked = {
        "by request": Asked(requests=[{"Capabilities": [["gpu"]], "DeviceIDs": names}]),
        "by CDI name": Asked(names=[f"nvidia.com/gpu={name}" for name in names]),
        "by variable": Asked(runtime=True),
    }
    asked["by variable"].environment([f"{VISIBLE}={','.join(names)}"])
    for one in asked.values():
        with within(20), pytest.raises(Refused) as caught:
            judge(one, [])
        assert len(str(caught.value)) < 400
