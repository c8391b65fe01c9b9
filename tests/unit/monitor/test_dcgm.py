"""Texts of the DCGM exporter: recorded in form, simulated in content, and hostile."""

from __future__ import annotations

import contextlib
import math

from hypothesis import given
from hypothesis import strategies as st

from ds01.monitor.dcgm import DcgmError, read

# The form in which the exporter of a divided A100 and a whole one writes.
RECORDED = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",pci_bus_id="00000000:41:00.0",device="nvidia1",modelName="A",Hostname="h"} 42
# HELP DCGM_FI_PROF_GR_ENGINE_ACTIVE Ratio of time the graphics engine is active.
# TYPE DCGM_FI_PROF_GR_ENGINE_ACTIVE gauge
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-a",device="nvidia0",GPU_I_PROFILE="3g.40gb",GPU_I_ID="1"} 0.000000
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-a",device="nvidia0",GPU_I_PROFILE="2g.20gb",GPU_I_ID="5"} 1.010000
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-a",device="nvidia0",GPU_I_PROFILE="1g.10gb",GPU_I_ID="9"} 9.22337e+18
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="1",UUID="GPU-b",device="nvidia1"} 0.5
"""


def test_a_recorded_text() -> None:
    found = read(RECORDED)
    assert {where: busy.percent for where, busy in found.items()} == {
        ("GPU-a", 1): 0.0,
        ("GPU-a", 5): 100.0,
        ("GPU-b", None): 50.0,
    }
    # Nine quintillion is how DCGM writes that it does not know.
    assert ("GPU-a", 9) not in found


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 7), st.integers(0, 13)), st.floats(allow_nan=True, allow_infinity=True), max_size=20
    )
)
def test_any_values(values: dict[tuple[int, int], float]) -> None:
    lines = [
        f'DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu="{gpu}",UUID="GPU-{gpu}",GPU_I_ID="{part}"}} {value!r}\n'
        for (gpu, part), value in values.items()
    ]
    found = read("".join(lines).replace("nan", "NaN").replace("inf", "+Inf").replace("-+Inf", "-Inf"))
    known = {key: value for key, value in values.items() if math.isfinite(value) and 0 <= value * 100 <= 200}
    assert {where: busy.percent for where, busy in found.items()} == {
        (f"GPU-{gpu}", part): min(value * 100, 100.0) for (gpu, part), value in known.items()
    }


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: RECORDED + data.decode("latin-1")))
def test_no_text_is_a_surprise(text: str) -> None:
    with contextlib.suppress(DcgmError):
        assert all(0 <= busy.percent <= 100 for busy in read(text).values())
