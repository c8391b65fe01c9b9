"""Names: back and forth without loss, in every field that holds one, and nobody gets at another's."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.engine import owners
from ds01.gateway import fields, names
from ds01.gateway.refusals import Refused

SHORT = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", fullmatch=True).filter(lambda name: owners.SUFFIX not in name)
UID = st.integers(0, 2**32 - 2)


@given(SHORT, UID)
def test_both_spellings_are_the_owners(short: str, uid: int):
    engine_name = names.to_engine(short, uid)
    assert owners.uid_in_name(engine_name) == uid
    assert owners.short(engine_name, uid) == short
    assert names.to_engine(engine_name, uid) == engine_name


@given(SHORT, UID, UID)
def test_nobody_makes_a_name_that_is_anothers(short: str, mine: int, other: int):
    if mine == other:
        return
    with pytest.raises(Refused):
        names.to_engine(f"{short}{owners.SUFFIX}{other}", mine)
    assert owners.uid_in_name(names.to_engine(short, mine)) == mine


@pytest.mark.parametrize("short", ["", "-x", ".x", "a/b", "a b", "a._.b", "a:b", "ä", "x" * 201, "._.1000"])
def test_what_is_no_name_is_refused(short: str):
    with pytest.raises(Refused):
        names.to_engine(short, 1000)


@given(SHORT, SHORT, SHORT, UID)
def test_every_field_goes_there_and_back(container: str, volume: str, network: str, uid: int):
    document = {
        "Name": f"/{container}",
        "Names": [f"/{container}", f"/{network}/{volume}"],
        "HostConfig": {
            "NetworkMode": network, "PidMode": f"container:{container}", "IpcMode": "private",
            "Binds": [f"{volume}:/data:ro", "/srv/x:/y"], "VolumesFrom": [f"{container}:ro"],
            "Links": [f"{container}:db"],
            "Mounts": [{"Type": "volume", "Source": volume}, {"Type": "bind", "Source": f"/{volume}"}],
        },
        "Mounts": [{"Type": "volume", "Name": volume}, {"Type": "bind", "Source": "/srv/x"}],
        "NetworkSettings": {"Networks": {network: {"Aliases": ["x"]}}},
    }  # fmt: skip
    there = copy.deepcopy(document)
    fields.rename(there, fields.CONTAINER, lambda _, name: names.to_engine(name, uid))
    mark = f"{owners.SUFFIX}{uid}"
    assert there["HostConfig"]["Binds"] == [f"{volume}{mark}:/data:ro", "/srv/x:/y"]
    assert there["HostConfig"]["PidMode"] == f"container:{container}{mark}"
    assert there["HostConfig"]["Mounts"][1]["Source"] == f"/{volume}"
    assert list(there["NetworkSettings"]["Networks"]) == [f"{network}{mark}"]
    fields.rename(there, fields.CONTAINER, lambda _, name: owners.short(name, uid))
    assert there == document
