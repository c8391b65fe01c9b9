#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""NVIDIA's container toolkit, with the doors past DS01 closed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_nvidia
short_description: Close the doors that NVIDIA's container toolkit leaves open
description:
  - Looks whether driver and container toolkit will do, and refuses versions of the toolkit with known escapes by name.
  - Sets two keys of C(/etc/nvidia-container-runtime/config.toml) to false, by which a container could take any GPU with
    an environment variable or a mount. Everything else in the file stays as it is.
  - A host without a GPU of NVIDIA, or without a driver that answers, is left alone.
  - Needs nothing on the host but its Python.
options:
  state:
    description: Whether the doors are closed, or the file is as it was before.
    type: str
    choices: [present, absent]
    default: present
author: DS01
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Close the doors of the container toolkit
  ds01_nvidia:
"""

RETURN = r"""
present:
  description: Whether there is a GPU with a driver that answers.
  type: bool
  returned: state is present
driver:
  description: Version of the driver.
  type: str
  returned: state is present
toolkit:
  description: Version of the container toolkit.
  type: str
  returned: state is present
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.host import nvidia
from ansible.module_utils.ds01.host.gpus import software, survey
from ansible.module_utils.ds01.problems import RefusedError
from ansible.module_utils.ds01_module import run_module


def answer(module: AnsibleModule) -> dict[str, Any]:
    """Close the doors, or open them again."""
    return reopen(module) if module.params["state"] == "absent" else close(module)


def close(module: AnsibleModule) -> dict[str, Any]:
    """Check driver and toolkit, then set the keys."""
    found = survey()
    facts = {"present": bool(found.cards), "driver": found.driver, "toolkit": found.toolkit}
    if not found.cards:
        said = "its driver does not answer" if found.present else "there is none"
        return {"changed": False, "msg": f"No GPU of NVIDIA to set up: {said}.", **facts}
    if problems := [finding.problem for finding in software(found)]:
        raise RefusedError(problems)
    before, after = nvidia.difference()
    if before != after and not module.check_mode:
        nvidia.close()
    return {"changed": before != after, "diff": _diff(before, after), **facts}


def reopen(module: AnsibleModule) -> dict[str, Any]:
    """Put the file back as it was, unless somebody else changed it since."""
    if not nvidia.BEFORE.exists():
        return {"changed": False}
    before, after = nvidia.current(), nvidia.kept()
    if not module.check_mode:
        nvidia.reopen()
    text = "was changed by somebody else since, and stays as it is"
    return {
        "changed": True,
        "warnings": [f"{nvidia.CONFIG} {text}"] if after is None else [],
        "diff": _diff(before, before if after is None else after),
    }


def _diff(before: str, after: str) -> dict[str, str]:
    header = str(nvidia.CONFIG)
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def main() -> None:
    """Run as an Ansible module."""
    run_module(answer, argument_spec={"state": {"choices": ["present", "absent"], "default": "present"}})


if __name__ == "__main__":
    main()
