#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""All people of a host in one call."""

DOCUMENTATION = r"""
---
module: ds01_users
short_description: Bring all people of a host in line with a list, in one call
description:
  - Makes accounts, groups, ssh keys, home and scratch directories, expiry dates and disk quotas match a list of people.
  - The groups C(ds01-users) and C(ds01-admin) are made if missing, and exact: listed people are in those of them that
    their entry names.
  - People of a directory (AD, LDAP) never get a local account. People who are in no list are reported, never deleted.
  - Every problem of every person is reported before anything is changed.
options:
  people:
    description: The people. Each has C(name), and optionally C(comment), C(groups), C(ssh_keys), C(expires) (UTC date,
      the first day without access), C(shell), C(uid), C(quota) (C(home) and C(scratch) in bytes), C(create).
    type: list
    elements: dict
    required: true
  home_base:
    description: Where homes of new accounts are made.
    type: path
    default: /home
  scratch_base:
    description: Where everybody gets a private scratch directory. Empty for none.
    type: str
    default: /scratch
  quotas:
    description: Set disk quotas where the file system can.
    type: bool
    default: true
author: DS01
"""

EXAMPLES = r"""
- name: Apply the list of people
  ds01_users:
    people:
      - name: alice
        comment: Alice Example
        groups: [ds01-users]
        ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLE alice@laptop"]
        expires: "2027-03-31"
        quota: {home: 53687091200, scratch: null}
"""

RETURN = r"""
created:
  description: Accounts that were made.
  type: list
  returned: always
changes:
  description: Every difference, as C(login), C(what), C(before), C(after).
  type: list
  returned: always
unlisted:
  description: People who are managed on the host and in no list.
  type: list
  returned: always
unresolved:
  description: Listed names that neither the host nor a directory knows.
  type: list
  returned: always
past:
  description: Listed people without an account here whose date has passed. Nothing is made for them.
  type: list
  returned: always
quota:
  description: Whether home and scratch support quotas by directory, and what to do where they do not.
  type: dict
  returned: always
failed_people:
  description: Who could not be brought in line, and why.
  type: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.users.bulk import run
from ansible.module_utils.ds01_module import run_module


def converge(module: AnsibleModule) -> dict:
    """Bring everybody in line."""
    config = {**module.params, "scratch_base": module.params["scratch_base"] or None}
    result = run(config, check=module.check_mode)
    failed = result["failed_people"] = result.pop("failed")
    if failed:
        text = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        result |= {"failed": True, "msg": f"{len(failed)} could not be brought in line, the others were: {text}"}
    return result


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        converge,
        argument_spec={
            "people": {"type": "list", "elements": "dict", "required": True},
            "home_base": {"type": "path", "default": "/home"},
            "scratch_base": {"type": "str", "default": "/scratch"},
            "quotas": {"type": "bool", "default": True},
        },
    )


if __name__ == "__main__":
    main()
