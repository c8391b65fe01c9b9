"""The policy file: the only code that reads it.

`load_policy` reads and checks, `resolve` answers whose limits are what. Names are imported on first use, because
commands that only resolve must not wait for the validator to load.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ds01.policy.load import LoadedPolicy, load_policy
    from ds01.policy.models import Policy
    from ds01.policy.problems import PolicyError
    from ds01.policy.rendering import render
    from ds01.policy.resolver import Resolved, resolve
    from ds01.problems import Problem

DEFAULT_PATH = "/etc/ds01/resource-limits.yaml"
_HOME = {
    "LoadedPolicy": "policy.load",
    "Policy": "policy.models",
    "PolicyError": "policy.problems",
    "Problem": "problems",
    "Resolved": "policy.resolver",
    "load_policy": "policy.load",
    "render": "policy.rendering",
    "resolve": "policy.resolver",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ds01.{_HOME[name]}"), name)
    globals()[name] = value
    return value


__all__ = [
    "DEFAULT_PATH",
    "LoadedPolicy",
    "Policy",
    "PolicyError",
    "Problem",
    "Resolved",
    "load_policy",
    "render",
    "resolve",
]
