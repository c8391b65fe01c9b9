"""Slices: the part of the policy that the kernel enforces, as systemd units and their live values.

Nothing is imported here: whoever only needs a name must not wait for the rest.
"""
