"""Room on the disk for archives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ds01.gateway.refusals import Refused
from ds01.gateway.spool import see_room


def test_what_would_fill_the_disk_is_refused(tmp_path: Path):
    free = shutil.disk_usage(tmp_path).free
    see_room(tmp_path)
    with pytest.raises(Refused, match="less than 1g would be free"):
        see_room(tmp_path, free)
