"""What keeps the engine from being set up."""

from __future__ import annotations

from ..problems import ProblemsError


class EngineError(ProblemsError):
    """The engine cannot be set up."""
