#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Services of DS01 that run all the time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_services
short_description: Run services of DS01 in the version that is installed
description:
  - Enables services at boot, and restarts those that do not run, run an earlier version of the runtime, or began before
    their unit file was written.
  - Needs nothing on the host but its Python.
options:
  running:
    description: Services that run all the time, by the full path of the runtime.
    type: list
    elements: str
    default: []
  at_boot:
    description: Services that run once at each boot; they are only enabled.
    type: list
    elements: str
    default: []
  rewritten:
    description: Whether the unit files change in this run, so that check mode predicts the restart.
    type: bool
    default: false
  state:
    description: Whether they run, or are stopped and start no more. A service without unit file is stopped already.
    type: str
    choices: [present, absent]
    default: present
author: DS01
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Keep the ledger at what is running
  ds01_services:
    running: [ds01-reconcile.service]
"""

RETURN = r"""
changes:
  description: What was done, like C(restart ds01-reconcile.service).
  type: list
  elements: str
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.host import services
from ansible.module_utils.ds01_module import run_module


def answer(module: AnsibleModule) -> dict[str, Any]:
    """Compare, and do what is lacking."""
    running, at_boot = module.params["running"], module.params["at_boot"]
    changes: list[str] = []
    for unit in [*at_boot, *running]:
        if module.params["state"] == "absent":
            steps = ["end"] if (services.UNITS / unit).exists() else []
        else:
            steps = services.lacking(unit, running=unit in running, rewritten=module.params["rewritten"])
        changes += [f"{step} {unit}" for step in steps]
        if not steps or module.check_mode:
            continue
        if module.params["state"] == "absent":
            services.end(unit)
        else:
            services.bring(unit, steps)
    return {"changed": bool(changes), "changes": changes}


if __name__ == "__main__":
    run_module(
        answer,
        argument_spec={
            "running": {"type": "list", "elements": "str", "default": []},
            "at_boot": {"type": "list", "elements": "str", "default": []},
            "rewritten": {"type": "bool", "default": False},
            "state": {"choices": ["present", "absent"], "default": "present"},
        },
    )
