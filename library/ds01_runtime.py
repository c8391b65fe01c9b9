#!/usr/bin/python
# Copyright: the DS01 authors
# SPDX-License-Identifier: MIT
"""Install the runtime, choose which version is in use, or remove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_runtime
short_description: Install the runtime of DS01
description:
  - Each version is in a directory of its own below C(/opt/ds01). The link C(current) is moved last, in one step.
  - A version that is installed is only put in use. Otherwise RV(missing) is true and nothing is done, until O(bundle)
    is given.
options:
  state:
    description: Whether there is a runtime.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: The version to use, a directory below C(/opt/ds01).
    type: str
  bundle:
    description: File on the host to install it from.
    type: path
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Put a version in use
  ds01_runtime:
    name: 0.1.0-0123abcd
"""

RETURN = r"""
missing:
  description: Whether the version is not installed.
  type: bool
  returned: state is present
installed:
  description: The versions that are installed.
  type: list
  elements: str
  returned: state is present
removed:
  description: Earlier versions that were removed.
  type: list
  elements: str
  returned: state is present
venv_package:
  description: The package to install before a virtual environment can be made, or nothing.
  type: str
  returned: state is present
python:
  description: The version of Python that the wheels must fit.
  type: str
  returned: state is present
machine:
  description: The processor that the wheels must fit.
  type: str
  returned: state is present
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.host.runtime import HOME, Runtime, target, venv_package
from ansible.module_utils.ds01_module import run_module


def provide(module: AnsibleModule) -> dict:
    """Install if there is a bundle for it, and put in use."""
    runtime = Runtime()
    name, bundle = module.params["name"], module.params["bundle"]
    before = runtime.current()
    missing = not runtime.complete(name)
    needs = target()
    result = {
        "changed": False,
        "missing": missing,
        "installed": runtime.installed(),
        "removed": [],
        "python": needs.python,
        "machine": needs.machine,
        "venv_package": venv_package(),
    }
    if missing and not bundle:
        return result
    if not missing and runtime.in_use(name):
        return result
    result["changed"] = True
    header = str(HOME / "current")
    result["diff"] = {
        "before_header": header,
        "after_header": header,
        "before": f"{before or ''}\n",
        "after": f"{name}\n",
    }
    if not module.check_mode:
        if missing:
            runtime.install(name, Path(bundle))
        runtime.use(name)
        result["removed"] = runtime.prune(name)
    return result


def remove(module: AnsibleModule) -> dict:
    """Remove all of it."""
    runtime = Runtime()
    there = HOME.is_dir()
    return {"changed": there if module.check_mode else runtime.remove()}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        lambda module: provide(module) if module.params["state"] == "present" else remove(module),
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str"},
            "bundle": {"type": "path"},
        },
        required_if=[("state", "present", ["name"])],
    )


if __name__ == "__main__":
    main()
