"""What all tests may use."""

from __future__ import annotations

import os

from hypothesis import settings

from lab.nvmlsim.testing import nvml_server

__all__ = ["nvml_server"]

# How long one example takes says how busy the machine is.
settings.register_profile("ds01", deadline=None)
settings.load_profile("ds01")
# pytest-xdist sets it; what commands print must not depend on who runs them.
os.environ.pop("COLUMNS", None)
