#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""The policy file, checked and boiled down for the roles. Runs on the controller."""

DOCUMENTATION = r"""
---
module: ds01_policy
short_description: Check the policy file and return what roles need
description:
  - Reads a policy file and all files it refers to, and reports every problem at once.
  - Changes nothing. Runs where the package C(ds01) is installed, so with the controller's C(ansible_playbook_python).
options:
  path:
    description: The policy file.
    type: path
    required: true
  extra_people:
    description: Further people files (CSV or YAML). One stands for a file of the same name that the policy reads.
    type: list
    elements: path
    default: []
author: DS01
"""

EXAMPLES = r"""
- name: Check the policy
  ds01_policy:
    path: "{{ inventory_dir }}/resource-limits.yaml"
  delegate_to: localhost
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""

RETURN = r"""
resolved:
  description: The policy as plain data. C(rendered) is the file for hosts, C(slices), C(logins), C(people), C(groups),
    C(storage), C(users), C(admins) and C(engine) are what the roles of these names work with, C(gpu_allocation) is for
    the role C(mig), C(warnings) are texts.
  type: dict
  returned: success
problems:
  description: Every error and warning, as C(path), C(value), C(expected), C(fix), C(severity), C(where).
  type: list
  returned: failure
"""

import sys
from datetime import UTC, datetime

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ds01_module import run_module

try:
    from ds01.policy import PolicyError, load_policy
    from ds01.policy.handover import handover
except ImportError as error:
    IMPORT_ERROR = error
else:
    IMPORT_ERROR = None


def check(module: AnsibleModule) -> dict:
    """Read the policy."""
    if IMPORT_ERROR is not None:
        fix = f"run `make venv`, or `{sys.executable} -m pip install .` in the repository"
        return {"failed": True, "msg": f"{missing_required_lib('ds01')} ({IMPORT_ERROR}): {fix}"}
    try:
        loaded = load_policy(module.params["path"], extra_people=module.params["extra_people"])
    except PolicyError as error:
        lines = "\n".join(f"{problem.severity}: {problem}" for problem in error.problems)
        problems = [problem.as_dict() for problem in error.problems]
        msg = f"The policy cannot be used; nothing was changed.\n{lines}"
        return {"failed": True, "msg": msg, "problems": problems}
    warnings = [str(warning) for warning in loaded.warnings]
    return {"changed": False, "warnings": warnings, "resolved": handover(loaded, datetime.now(UTC))}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        check,
        argument_spec={
            "path": {"type": "path", "required": True},
            "extra_people": {"type": "list", "elements": "path", "default": []},
        },
    )


if __name__ == "__main__":
    main()
