"""What was asked of GPUs, on a label and back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ds01.allocator.request import Request
from ds01.reconcile import labels

NAMES = st.lists(st.from_regex(r"[0-9]{1,4}(:[0-9]{1,4})?|(GPU|MIG)-[0-9a-f/-]{1,40}", fullmatch=True), max_size=64)
REQUESTS = st.one_of(
    st.builds(
        Request,
        count=st.none() | st.integers(1, 4096),
        memory_bytes=st.integers(0, 1 << 60),
        runtime=st.none() | st.integers(1, 10**9),
        profile=st.none() | st.sampled_from(["1g.10gb", "3g.40gb", "1g.10gb+me"]),
    ),
    st.builds(Request, full=st.sampled_from([True])),
    NAMES.filter(bool).map(Request.named),
)


@given(REQUESTS)
def test_a_request_comes_back_from_its_label(request: Request):
    label = labels.write(request.as_dict())
    assert "," not in label
    assert Request.stored(labels.read(label)) == request


@given(st.text())
def test_any_label_is_some_json(text: str):
    assert isinstance(json.loads(labels.read(text)), dict)
