#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Departed people: archive and disable, later remove."""

DOCUMENTATION = r"""
---
module: ds01_offboard
short_description: Take departed people one step further off this host
description:
  - "First step: lock and expire the account, move its keys aside, archive home and scratch and read the archive back."
  - "Second step, in a run after the period of grace: remove account and directories. The archive stays."
  - A dry run unless O(confirm) is true. Containers and processes are named and never stopped.
options:
  departed:
    description: C(expired), C(unlisted), or logins separated by commas.
    type: str
    required: true
  confirm:
    description: Act; otherwise only report.
    type: bool
    default: false
  people:
    description: The list of people, as for M(ds01_users).
    type: list
    elements: dict
    default: []
  grace_days:
    description: Days from disabling to removal.
    type: int
    default: 90
  admins:
    description: C(groups) and C(users) that may not be off-boarded.
    type: dict
    default: {}
  scratch_base:
    description: Where the scratch directories are. Empty for none.
    type: str
    default: /scratch
  archive_directory:
    description: Where the archives go.
    type: path
    default: /var/lib/ds01/archive
author: DS01
"""

EXAMPLES = r"""
- name: See what off-boarding of everybody whose date has passed would do
  ds01_offboard:
    departed: expired
    people: "{{ policy_resolved.people }}"

- name: Archive and disable two people
  ds01_offboard:
    departed: alice,bob
    confirm: true
"""

RETURN = r"""
people:
  description: One report for each person, with stage, steps, sizes, sessions, containers and the date of removal.
  type: list
  returned: always
refused:
  description: Whom a rule found and who may not be off-boarded, and why.
  type: list
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.users.leaving import KEYWORDS
from ansible.module_utils.ds01.users.offboard import run
from ansible.module_utils.ds01_module import run_module


def offboard(module: AnsibleModule) -> dict:
    """Take the next step of everybody who leaves, or say what it would be."""
    config = dict(module.params)
    departed = config["departed"].strip()
    if departed not in KEYWORDS:
        config["departed"] = [name.strip() for name in departed.split(",") if name.strip()]
    config["scratch_base"] = config["scratch_base"] or None
    confirm = config.pop("confirm")
    result = run(config, act=confirm and not module.check_mode)
    result["changed"] = result.pop("would_change") and confirm
    result["dry_run"] = not confirm or module.check_mode
    result["warnings"] = list(result["refused"])
    failed = [f"{person['login']}: {person['failed']}" for person in result["people"] if person["failed"]]
    if failed:
        result |= {"failed": True, "msg": "not finished, the next run goes on there: " + "; ".join(failed)}
    return result


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        offboard,
        argument_spec={
            "departed": {"type": "str", "required": True},
            "confirm": {"type": "bool", "default": False},
            "people": {"type": "list", "elements": "dict", "default": []},
            "grace_days": {"type": "int", "default": 90},
            "admins": {"type": "dict", "default": {}},
            "scratch_base": {"type": "str", "default": "/scratch"},
            "archive_directory": {"type": "path", "default": "/var/lib/ds01/archive"},
        },
    )


if __name__ == "__main__":
    main()
