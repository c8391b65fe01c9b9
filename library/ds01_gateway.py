#!/usr/bin/python
# Copyright: the DS01 authors
# SPDX-License-Identifier: MIT
"""Put the gateway where every Docker client looks for the engine, or give the engine its place back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_gateway
short_description: Put the gateway before the engine without losing a container
description:
  - Moves the engine to a socket that only root reaches and starts the gateway in its place. Containers run on. If one
    of the two does not come up, the engine is back where it was, for root alone.
  - A gateway of another version than the one in use hands over, and the sessions that are open stay open.
  - The gateway's units and the engine's settings must be in place.
  - With O(state=absent), stops the gateway and gives the engine its place back.
options:
  state:
    description: Whether the gateway is before the engine.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Put the gateway before the engine
  ds01_gateway:
"""

RETURN = r"""
restart:
  description: Why the engine is restarted; empty if it is not.
  type: list
  elements: str
  returned: state is present
survived:
  description: Containers that ran on through the restart.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.host.gateway import GatewaySetup
from ansible.module_utils.ds01_module import run_module


def set_up(module: AnsibleModule) -> dict:
    """Plan, and unless in check mode carry it out."""
    setup = GatewaySetup()
    plan = setup.plan()
    survived = setup.apply(plan) if plan.changed and not module.check_mode else []
    steps = [
        *(f"restart the engine: {reason}" for reason in plan.move),
        *(f"start {unit}" for unit in plan.start),
        *(f"start {unit} at boot" for unit in plan.enable),
        *(["hand over to the version in use"] if plan.outdated else []),
    ]
    difference = {
        "before_header": "gateway",
        "after_header": "gateway",
        "before": "",
        "after": "".join(f"{step}\n" for step in steps),
    }
    return {"changed": plan.changed, "restart": plan.move, "survived": survived, "diff": difference}


def give_back(module: AnsibleModule) -> dict:
    """Undo what `set_up` did."""
    setup = GatewaySetup()
    there = setup.there()
    return {"changed": there, "survived": setup.remove() if there and not module.check_mode else []}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        lambda module: set_up(module) if module.params["state"] == "present" else give_back(module),
        argument_spec={"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}},
    )


if __name__ == "__main__":
    main()
