"""Sizes, durations, CPU shares."""

from __future__ import annotations

import pytest

from ds01.policy import units
from ds01.policy.problems import BadValue

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32g", 32 * GIB), ("32G", 32 * GIB), ("32GB", 32 * GIB), ("32GiB", 32 * GIB), ("1.5g", 3 * GIB // 2),
        ("512M", 512 * 2**20), ("64k", 65536), ("7b", 7), (" 2 t ", 2**41), ("1p", 2**50),
    ],
)  # fmt: skip
def test_sizes_are_binary_like_dockers(text, size):
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "g", "32", "-1g", "1e3g", "32x", "32 gg", "1,5g", "nan", "9e", "16384p", "٣g"])
def test_what_is_no_size_says_what_is(text):
    with pytest.raises(BadValue) as caught:
        units.parse_size(text)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("48h", 172_800), ("1h30m", 5_400), ("7d", 604_800), ("1w", 604_800), ("0.5h", 1_800), ("90s", 90),
        ("1d 12h", 129_600), ("2H", 7_200), ("0s", 0), ("0.083h", 299),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("48", 'add the unit: "48h" or "48m"'),
        ("1:30", 'write "1h30m"'),
        ("30m1h", 'write it like "1d12h30m"'),
        ("1h1h", 'write it like "1d12h30m"'),
        ("-1h", "write units like 90s, 30m, 48h, 7d or 1w; null switches it off"),
        ("unlimited", "write units like 90s, 30m, 48h, 7d or 1w; null switches it off"),
        ("5000w", None),
        ("200y", "write units like 90s, 30m, 48h, 7d or 1w; null switches it off"),
        ("9999d9999h", None),
    ],
)
def test_what_is_no_duration_says_how_to_write_it(text, fix):
    if fix is None:
        assert units.parse_duration(text) <= units.DURATION_MAX
        return
    with pytest.raises(BadValue) as caught:
        units.parse_duration(text)
    assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (5_400, "1h30m"), (172_800, "48h"), (259_200, "3d"), (604_800, "7d"), (129_661, "1d12h1m1s")],
)
def test_durations_are_written_short(seconds, text):
    assert units.format_duration(seconds) == text


def test_cpu_percentages_are_cpus():
    assert units.parse_cpu_percent("9600%") == 96
    with pytest.raises(BadValue):
        units.parse_cpu_percent("9600")
