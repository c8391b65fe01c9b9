#!/usr/bin/python
# Copyright: the DS01 authors
# SPDX-License-Identifier: MIT
"""Name or make, on the controller, what a host's runtime is installed from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_runtime_bundle
short_description: Make what a host's runtime is installed from
description:
  - Runs on the controller. Names the version that the source tree is, and with O(python) and O(machine) makes one file
    with our wheel and every wheel it needs. What was made once is taken from the cache. The source tree stays clean.
options:
  root:
    description: The source tree.
    type: path
    required: true
  cache:
    description: Directory for what is made.
    type: path
    required: true
  python:
    description: The host's version of Python, as 3.13. Without it only the name is returned.
    type: str
  machine:
    description: The host's processor, as x86_64.
    type: str
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Name the version
  ds01_runtime_bundle:
    root: "{{ ansible_config_file | dirname }}"
    cache: "{{ ansible_config_file | dirname }}/.cache/runtime"
  delegate_to: localhost
"""

RETURN = r"""
name:
  description: The version with 8 digits of its content.
  type: str
  returned: always
path:
  description: The file.
  type: str
  returned: python is given
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.host import bundle
from ansible.module_utils.ds01.host.runtime import Target
from ansible.module_utils.ds01_module import run_module


def make(module: AnsibleModule) -> dict:
    """Name the version, and make its bundle if a host is given."""
    root = Path(module.params["root"])
    # The cache is the controller's own business: filling it changes nothing that the play is about.
    result = {"changed": False, "name": bundle.name(root)}
    if module.params["python"]:
        target = Target(module.params["python"], module.params["machine"])
        result["path"] = str(bundle.make(root, Path(module.params["cache"]), target))
    return result


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        make,
        argument_spec={
            "root": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
            "python": {"type": "str"},
            "machine": {"type": "str"},
        },
        required_together=[("python", "machine")],
    )


if __name__ == "__main__":
    main()
