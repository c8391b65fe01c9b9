"""JSON: nothing that Go would read otherwise gets past."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.gateway import jsonbody
from ds01.gateway.handlers import create_fields
from ds01.gateway.handlers.creation import _CREATE
from ds01.gateway.refusals import Refused

REFUSED = {
    "duplicate": b'{"HostConfig":{"Privileged":true},"HostConfig":{}}',
    "escaped duplicate": rb'{"Image":"a","\u0049mage":"b"}',
    "trailing data": b"{} {}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "not UTF-8": b'{"a":"\xff"}',
    "half a surrogate pair": rb'{"a":"\ud800"}',
    "a float": b'{"Memory":1e9}',
    "NaN": b'{"Memory":NaN}',
    "beyond 64 bits": b'{"Memory":9223372036854775808}',
    "many digits": b'{"Memory":' + b"1" * 5000 + b"}",
    "deep": b"[" * 65 + b"]" * 65,
    "very deep": b"[" * 100_000,
}
DIFFERENTIALS = [
    {"hostconfig": {"Privileged": True}},
    {"HOSTCONFIG": {}},
    {"Ho\u017ftConfig": {}},
    {"HostConfig": {"privileged": True}},
    {"HostConfig": {"Bind\u017f": ["/:/x"]}},
    {"HostConfig": {"Networ\u212aMode": "host"}},
    {"Privileged": True},
    {"Binds": ["/:/x"]},
    {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/x", "source": "/etc"}]}},
    {"HostConfig": {"NewFieldOfTomorrow": 1}},
]


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_ambiguous_json_is_refused(raw: bytes):
    with pytest.raises(Refused):
        jsonbody.read(raw)


@pytest.mark.parametrize("body", DIFFERENTIALS, ids=repr)
def test_a_name_that_only_the_engine_knows_is_refused(body: dict):
    with pytest.raises(Refused, match="not a field that this server accepts"):
        _CREATE(body, "")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_plain_json_is_read_as_it_is(value):
    assert jsonbody.read(json.dumps(value).encode()) == value
    assert json.loads(jsonbody.write(value)) == value


@given(st.sampled_from(sorted(create_fields.HOST)), VALUES)
def test_no_value_of_a_field_breaks_its_shape(name: str, value):
    try:
        found = _CREATE({"HostConfig": {name: value}}, "")
    except Refused:
        return
    else:
        assert set(found["HostConfig"]) <= {name}
