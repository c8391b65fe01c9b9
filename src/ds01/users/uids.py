"""Which uids are people's. Small, because commands that only tell people from daemons must start fast."""

from __future__ import annotations

from typing import Final

UID_MIN_ALLOWED: Final = 1000
UID_RESERVED: Final = frozenset({65534, 65535})
UID_END: Final = 2**31 - 1
"""Uids from here on have no valid project id for scratch quotas and break programs that store them signed."""
