from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.cdi.spec import HOOK_ENVIRONMENT, CdiError, check, compose, devices_of, merge, qualified, token_of
from tests.unit.cdi.nvidia import COMMON, NODES, UUIDS, base

TOKEN = "claim" * 4


def paths(edits: dict[str, Any]) -> list[str]:
    return [node["path"] for node in edits.get("deviceNodes", [])]


@given(st.lists(st.sampled_from(UUIDS), min_size=1, unique=True))
def test_a_container_gets_its_devices_and_no_other(held: list[str]) -> None:
    spec = compose(base(), TOKEN, held)
    check(spec)
    assert spec["kind"] == "ds01.io/gpu"
    assert [device["name"] for device in spec["devices"]] == [TOKEN]
    got = paths(spec["devices"][0]["containerEdits"])
    assert set(got) == {path for uuid in held for path in NODES[uuid]}
    assert len(got) == len(set(got)), "a node that two devices share is there once"
    hooks = spec["containerEdits"].pop("hooks")
    assert spec["containerEdits"] | {"hooks": COMMON["hooks"]} == COMMON
    assert [hook | {"env": None} for hook in hooks] == [hook | {"env": None} for hook in COMMON["hooks"]]
    assert devices_of(spec) == tuple(held)


def test_what_a_later_toolkit_adds_is_kept() -> None:
    later = base(
        cdiVersion="1.1.0",
        annotations={"made": "later"},
        containerEdits=COMMON | {"netDevices": [{"hostInterfaceName": "ib0"}]},
    )
    for device in later["devices"]:
        device["containerEdits"] |= {"additionalGids": [44], "intelRdt": {"closID": "a"}}
    spec = compose(later, TOKEN, UUIDS[1:])
    assert spec["cdiVersion"] == "1.1.0"
    assert spec["annotations"] == {"made": "later"}
    assert spec["containerEdits"]["netDevices"] == [{"hostInterfaceName": "ib0"}]
    assert spec["devices"][0]["containerEdits"]["additionalGids"] == [44]
    assert spec["devices"][0]["containerEdits"]["intelRdt"] == {"closID": "a"}


def test_no_hook_has_the_environment_of_the_container() -> None:
    hooks = [{"hookName": "createContainer", "path": "/h"}, {"hookName": "poststop", "path": "/h", "env": ["A=1"]}]
    given_base = base(containerEdits={"hooks": hooks})
    given_base["devices"][0]["containerEdits"] |= {"hooks": [hooks[0] | {"env": []}]}
    spec = compose(given_base, TOKEN, UUIDS[:1])
    common, own = (edits["hooks"] for edits in (spec["containerEdits"], spec["devices"][0]["containerEdits"]))
    assert [hook["env"] for hook in common] == [list(HOOK_ENVIRONMENT), ["A=1"]]
    assert [hook["env"] for hook in own] == [list(HOOK_ENVIRONMENT)]


def test_the_base_spec_is_left_alone() -> None:
    given_base = base()
    compose(given_base, TOKEN, UUIDS)
    assert given_base == base()


def test_one_path_comes_from_one_entry() -> None:
    one = {
        "deviceNodes": [{"path": "/dev/x", "permissions": "rw"}],
        "mounts": [{"hostPath": "/a", "containerPath": "/x"}],
    }
    other = {"deviceNodes": [{"path": "/dev/x"}], "mounts": [{"hostPath": "/b", "containerPath": "/x"}], "env": ["A=1"]}
    assert merge([one, other]) == one | {"env": ["A=1"]}


@pytest.mark.parametrize(
    ("held", "expected"),
    [((), "holds no device"), (("MIG-gone",), "MIG-gone.*nvidia-ctk cdi generate"), (("0:1",), "0:1")],
)
def test_a_device_that_is_not_there_is_refused(held: tuple[str, ...], expected: str) -> None:
    with pytest.raises(CdiError, match=expected):
        compose(base(), TOKEN, held)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cdiVersion": 5},
        {"cdiVersion": "five"},
        {"containerEdits": []},
        {"containerEdits": {"env": ["no value"]}},
        {"containerEdits": {"env": "A=1"}},
        {"containerEdits": {"deviceNodes": [{"path": ""}]}},
        {"containerEdits": {"deviceNodes": ["/dev/null"]}},
        {"containerEdits": {"deviceNodes": [{"path": "/dev/null", "type": "x"}]}},
        {"containerEdits": {"deviceNodes": [{"path": "/dev/null", "permissions": "rwx"}]}},
        {"containerEdits": {"hooks": [{"path": "/usr/bin/hook"}]}},
        {"containerEdits": {"mounts": [{"hostPath": "/a"}]}},
    ],
)
def test_what_the_engine_would_not_take_is_named(wrong: dict[str, Any]) -> None:
    if wrong.get("containerEdits") == []:
        wrong = {"containerEdits": ["x"]}
    with pytest.raises(CdiError, match=next(iter(wrong))):
        compose(base(**wrong), TOKEN, UUIDS[:1])


@pytest.mark.parametrize("token", ["", "-a", "a b", "a/b", "a\nb", "../up"])
def test_a_token_that_is_no_device_name_is_refused(token: str) -> None:
    with pytest.raises(CdiError, match="name"):
        compose(base(), token, UUIDS[:1])


def test_tokens_are_found_in_device_names() -> None:
    assert token_of(qualified(TOKEN)) == TOKEN
    assert token_of("nvidia.com/gpu=0") is None
    assert token_of("ds01.io/gpu=") is None
