"""The schema of the policy file, one module per concern."""

from ds01.policy.models.policy import Policy

__all__ = ["Policy"]
