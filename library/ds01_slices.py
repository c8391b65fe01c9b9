# SPDX-License-Identifier: MIT
"""Ansible module: the slices of containers and of logins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_slices
short_description: Make systemd slices, and what the kernel has for them, what the policy says
description:
  - Writes the unit files and drop-ins of DS01's slices, removes those of its own that are not wanted any more,
    reloads systemd once, and sets the limits of slices that are in use at this moment.
  - Compares with the kernel's cgroup files, so a limit that only the kernel has otherwise is a change too.
  - Needs nothing on the host but its Python.
options:
  spec:
    description: The slices of containers, as C(policy_resolved.slices) has them.
    type: dict
  logins:
    description: The limits of logins, as C(policy_resolved.logins) has them.
    type: dict
  devices:
    description:
      - The same data. The GPUs of the host are closed to logins, cron, at and their like as it says, also to what runs;
        grants stay as they are.
    type: dict
  state:
    description: V(absent) removes the family named by O(family).
    type: str
    choices: [present, absent]
    default: present
  family:
    description: What O(state=absent) removes.
    type: str
    choices: [slices, logins, devices]
author: DS01
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Make the slices what the policy says
  ds01_slices:
    spec: "{{ policy_resolved.slices }}"

- name: Remove the limits of logins
  ds01_slices:
    state: absent
    family: logins
"""

RETURN = r"""
changes:
  description: One line for each change that was made, or would be.
  returned: always
  type: list
  elements: str
still_wrong:
  description: Slices that the kernel has otherwise even after the change.
  returned: always
  type: list
  elements: str
"""

import datetime as dt

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.slices.apply import (
    Outcome,
    converge_logins,
    converge_slices,
    remove_logins,
    remove_slices,
)
from ansible.module_utils.ds01.slices.desired import LoginSpec
from ansible.module_utils.ds01.slices.devices import Outcome as DeviceOutcome
from ansible.module_utils.ds01.slices.devices import converge_devices, remove_devices
from ansible.module_utils.ds01.slices.plan import Host
from ansible.module_utils.ds01.slices.spec import SliceSpec
from ansible.module_utils.ds01_module import run_module


def run(module: AnsibleModule) -> Outcome | DeviceOutcome:
    """Do what the parameters ask for."""
    params, dry_run = module.params, module.check_mode
    if params["state"] == "absent":
        families = {"slices": remove_slices, "logins": remove_logins, "devices": remove_devices}
        return families[params["family"]](dry_run=dry_run, via="ansible")
    if params["devices"] is not None:
        return converge_devices(LoginSpec.from_dict(params["devices"]), dry_run=dry_run, via="ansible")
    if params["spec"] is not None:
        spec = SliceSpec.from_dict(params["spec"])
        return converge_slices(spec, dt.datetime.now(dt.UTC), dry_run=dry_run, via="ansible")
    return converge_logins(LoginSpec.from_dict(params["logins"]), dry_run=dry_run, via="ansible")


def converge(module: AnsibleModule) -> dict:
    """Do it, and say what came of it."""
    outcome = run(module)
    return {
        "changed": bool(outcome.changes),
        "changes": outcome.changes,
        "still_wrong": outcome.problems,
        "diff": outcome.plan.diffs(Host().units),
        "warnings": [*outcome.plan.warnings(), *outcome.problems],
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        converge,
        argument_spec={
            "spec": {"type": "dict"},
            "logins": {"type": "dict"},
            "devices": {"type": "dict"},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "family": {"choices": ["slices", "logins", "devices"]},
        },
        mutually_exclusive=[("spec", "logins", "devices", "family")],
        required_if=[("state", "present", ("spec", "logins", "devices"), True), ("state", "absent", ("family",))],
    )


if __name__ == "__main__":
    main()
