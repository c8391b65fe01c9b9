#!/usr/bin/python
# Copyright: the DS01 authors
# SPDX-License-Identifier: MIT
"""Bring the container engine to its settings while the containers run on, or give it back as it was."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_engine
short_description: Set up the container engine without losing a container
description:
  - Merges our settings into C(daemon.json), closes the engine's socket to everybody but root and empties the group
    C(docker). The engine is restarted only if something really changed, and only after it confirmed live-restore.
  - Containers that were there first are surveyed once. Their owners are recorded, and their next start is in their
    owner's slice. None is stopped.
  - With O(state=absent), undoes all of it.
options:
  state:
    description: Whether the engine is ours or as it was before.
    type: str
    choices: [present, absent]
    default: present
  policy:
    description: The section C(engine) of the policy. Needed to set the engine up.
    type: dict
  settings:
    description: Further settings for C(daemon.json). Ours win over them.
    type: dict
    default: {}
  slices:
    description: What the policy says of slices, to place the containers that were there first.
    type: dict
  ignored_drop_ins:
    description: Drop-ins of C(docker.service) that are about to be removed.
    type: list
    elements: str
    default: []
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Set up the engine
  ds01_engine:
    policy: "{{ policy_resolved.engine }}"
    slices: "{{ policy_resolved.slices }}"
"""

RETURN = r"""
keys:
  description: Settings of C(daemon.json) that change.
  type: list
  elements: str
  returned: state is present
restart:
  description: Why the engine is restarted; empty if it is not.
  type: list
  elements: str
  returned: state is present
removed_members:
  description: People taken out of the group docker.
  type: list
  elements: str
  returned: state is present
foreign_members:
  description: Members of the group docker that a directory service adds, and only it can remove.
  type: list
  elements: str
  returned: state is present
survived:
  description: Containers that ran on through the restart.
  type: list
  elements: str
  returned: always
adopted:
  description: Containers that were there first, with owner, group and slice.
  type: list
  elements: dict
  returned: state is present
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.engine import adopt, group, settings, units
from ansible.module_utils.ds01.engine.apply import EngineSetup, Plan, Wish
from ansible.module_utils.ds01.engine.restore import EngineReturn
from ansible.module_utils.ds01.slices.spec import SliceSpec
from ansible.module_utils.ds01_module import run_module


def set_up(module: AnsibleModule) -> dict:
    """Plan, and unless in check mode carry it out."""
    options = module.params
    slice_of = adopt.placement(SliceSpec.from_dict(options["slices"])) if options["slices"] else None
    setup = EngineSetup(Wish.of(options["policy"], options["settings"], options["ignored_drop_ins"]))
    plan = setup.plan()
    result = {
        "changed": plan.changed,
        "keys": plan.keys,
        "restart": plan.restart,
        "removed_members": plan.members,
        "foreign_members": group.foreign_members(),
        "survived": [],
        "adopted": [],
        "diff": differences(plan),
    }
    if module.check_mode or (not plan.changed and setup.record.adopted() is not None):
        return result
    outcome = setup.apply(plan, slice_of)
    return {**result, "survived": outcome.survived, "adopted": outcome.adopted}


def differences(plan: Plan) -> list[dict]:
    """Return what changes, file by file, for --diff."""
    found = []
    if plan.keys:
        header = settings.DAEMON_JSON
        found.append(
            {"before_header": header, "after_header": header, "before": plan.before or "", "after": plan.after}
        )
    if plan.drop_in:
        found.append(
            {"before_header": units.DROP_IN, "after_header": units.DROP_IN, "before": "", "after": units.DROP_IN_TEXT}
        )
    if plan.members:
        header = "members of group docker"
        before = "".join(f"{name}\n" for name in plan.members)
        found.append({"before_header": header, "after_header": header, "before": before, "after": ""})
    return found


def give_back(module: AnsibleModule) -> dict:
    """Undo what `set_up` did."""
    giver = EngineReturn()
    plan = giver.plan()
    if plan is None:
        return {"changed": False, "survived": []}
    survived = [] if module.check_mode else giver.apply(plan)
    return {"changed": True, "survived": survived, "members": plan.members}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        lambda module: set_up(module) if module.params["state"] == "present" else give_back(module),
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "policy": {"type": "dict"},
            "settings": {"type": "dict", "default": {}},
            "slices": {"type": "dict"},
            "ignored_drop_ins": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "present", ["policy"])],
    )


if __name__ == "__main__":
    main()
