"""File name patterns of a policy, expanded the same way wherever they are looked at. Standard library only."""

from __future__ import annotations

import glob
import os.path


def matching_files(pattern: str) -> list[str]:
    """Return the names of existing files that match an absolute pattern, sorted."""
    return sorted(name for name in glob.glob(pattern) if os.path.isfile(name))  # noqa: PTH113, PTH207 - names as text
