from typing import Any

import pytest

from ds01.slices.desired import LoginSpec
from ds01.slices.spec import Limits, SliceSpec, SpecError

GOOD: dict[str, Any] = {"groups": {"student": {"aggregate": {"max_cpus": 1}}}, "default_group": "student"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": None}, "groups: None: expected a mapping"),
        ({"default_group": "x"}, "default_group: 'x': expected one of the groups student"),
        ({"members": {"eve": "x"}}, "members.eve: 'x'"),
        ({"unix_groups": {"g": "x"}}, "unix_groups.g: 'x'"),
        ({"root": {"slice": "other.slice"}}, "root.slice"),
        ({"unmanaged": {"memory": 1}}, "unmanaged.memory: 1: expected one of cpu_weight"),
        ({"unmanaged": {"memory_max": "1G"}}, "unmanaged.memory_max: '1G'"),
        ({"unmanaged": {"memory_max": 0}}, "from 1 to"),
        ({"unmanaged": {"max_cpus": 0}}, "unmanaged.max_cpus: 0"),
        ({"unmanaged": {"tasks_max": True}}, "unmanaged.tasks_max: True"),
        ({"unmanaged": {"cpu_weight": 10_001}}, "to 10000"),
        ({"surprise": 1}, "surprise: 1"),
        ({"overrides": {"bob": {"group": "student", "expires": "soon"}}}, "overrides.bob.expires: 'soon'"),
        ({"overrides": {"bob": {"group": "x"}}}, "overrides.bob.group: 'x'"),
        ({"overrides": {"a/b": {"group": "student"}}}, "'a/b': expected a login name"),
        ({"groups": {"Bad-Name": {}}, "default_group": "Bad-Name"}, "expected a group name"),
    ],
)
def test_wrong_data_is_refused_with_its_place(changes: dict[str, Any], message: str):
    with pytest.raises(SpecError) as caught:
        SliceSpec.from_dict({**GOOD, **changes})
    assert message in str(caught.value)


def test_login_data():
    spec = LoginSpec.from_dict({"memory_max": 5, "swap_max": 0, "exempt_users": ["erin"], "exempt_groups": []})
    assert spec.limits == {"memory_max": 5, "swap_max": 0}
    assert spec.exempt_users == ("erin",)
    with pytest.raises(SpecError, match="exempt_users"):
        LoginSpec.from_dict({"exempt_users": "erin"})


def test_smaller_takes_each_limit_on_its_own():
    one = Limits(max_cpus=1, memory_max=None, tasks_max=5, cpu_weight=200)
    other = Limits(max_cpus=2, memory_max=7, tasks_max=None, cpu_weight=None)
    assert one.smaller(other) == Limits(max_cpus=1, memory_max=7, tasks_max=5, cpu_weight=100, io_weight=100)
    assert other.smaller(one) == one.smaller(other)
