#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""One profile in PAM that every session of a host goes through."""

DOCUMENTATION = r"""
---
module: ds01_pam_profile
short_description: Let every session go through a profile of PAM
description:
  - Writes a profile for sessions and enables it with pam-auth-update(8).
  - That leaves files of PAM alone that were changed by hand. Then this fails.
options:
  name:
    description: Of the profile, a file in C(/usr/share/pam-configs).
    type: str
    required: true
  content:
    description: What the profile says. Needed unless O(state=absent).
    type: str
  state:
    description: V(absent) disables the profile and removes it.
    type: str
    choices: [present, absent]
    default: present
author: DS01
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Let every login use it
  ds01_pam_profile:
    name: ds01-privacy
    content: "{{ lookup('ansible.builtin.template', 'usr/share/pam-configs/ds01-privacy.j2') }}"
"""

RETURN = r"""
changes:
  description: What was done, like C(change /etc/pam.d/common-session).
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.host import pam
from ansible.module_utils.ds01_module import run_module


def arrange(module: AnsibleModule) -> dict:
    """Enable the profile, or forget it."""
    name, content = module.params["name"], module.params["content"]
    if module.params["state"] == "absent":
        changes = [f"remove {pam.PROFILES / name}"] if pam.installed(name) else []
    else:
        changes = pam.lacking(name, content)
    if changes and not module.check_mode:
        if module.params["state"] == "absent":
            pam.disable(name)
        else:
            pam.enable(name, content)
    return {"changed": bool(changes), "changes": changes}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        arrange,
        argument_spec={
            "name": {"type": "str", "required": True},
            "content": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["content"])],
    )


if __name__ == "__main__":
    main()
