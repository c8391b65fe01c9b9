#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Shared directories, protected mounts and disk quotas of a host."""

DOCUMENTATION = r"""
---
module: ds01_storage
short_description: Bring shared directories, protected mounts and disk quotas in line with the policy
description:
  - Shared directories get owner, group, mode and access control lists. What is inside them is left alone.
  - Home and scratch are mounted C(nosuid,nodev), at once and after every boot, without disturbing sessions.
  - Quotas by directory are switched on where the file system can.
options:
  state:
    description: V(absent) undoes what was done here. People's data stays.
    type: str
    choices: [present, absent]
    default: present
  home_root:
    description: Where the homes are.
    type: path
    default: /home
  scratch_root:
    description: Where everybody has a private scratch directory.
    type: path
    default: /scratch
  directories:
    description: Path -> C(owner), C(group), C(mode) (octal), C(acl) (entries like C(group:ds01-users:rwx)).
    type: dict
    default: {}
  nosuid_nodev:
    description: Protect home and scratch.
    type: bool
    default: true
  quotas:
    description: V(required) fails where quotas by directory do not work, V(auto) says so.
    type: str
    choices: [auto, required, "off"]
    default: auto
author: DS01
"""

EXAMPLES = r"""
- name: One directory where everybody works together
  ds01_storage:
    directories:
      /collaborative: {owner: root, group: ds01-users, mode: "2770", acl: ["group:ds01-users:rwx"]}
"""

RETURN = r"""
changes:
  description: Every difference, as C(what), C(before), C(after).
  type: list
  returned: always
quota:
  description: Whether home and scratch support quotas by directory, and what to do where they do not.
  type: dict
  returned: when state is present
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.storage.setup import run, undo
from ansible.module_utils.ds01_module import run_module


def arrange(module: AnsibleModule) -> dict:
    """Bring storage in line, or give it back."""
    if module.params["state"] == "absent":
        return undo(check=module.check_mode)
    return run(module.params, check=module.check_mode)


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        arrange,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "home_root": {"type": "path", "default": "/home"},
            "scratch_root": {"type": "path", "default": "/scratch"},
            "directories": {"type": "dict", "default": {}},
            "nosuid_nodev": {"type": "bool", "default": True},
            "quotas": {"type": "str", "choices": ["auto", "required", "off"], "default": "auto"},
        },
    )


if __name__ == "__main__":
    main()
