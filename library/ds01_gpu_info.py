#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""The GPUs of a host and the devices they are divided into."""

DOCUMENTATION = r"""
---
module: ds01_gpu_info
short_description: Return the GPUs of a host
description:
  - Reads GPUs, MIG instances and the driver through NVML. Changes nothing.
  - Runs where the package C(ds01) is installed, so with C(/opt/ds01/current/bin/python) as interpreter.
  - A host without NVIDIA driver is no failure; C(available) is false then, and C(reason) says why.
options: {}
author: DS01
"""

EXAMPLES = r"""
- name: Read the GPUs
  ds01_gpu_info:
  register: gpus
  vars:
    ansible_python_interpreter: /opt/ds01/current/bin/python
"""

RETURN = r"""
available:
  description: Whether there is a driver that answers.
  type: bool
  returned: success
reason:
  description: Why there is none, and what to do about it; empty if there is one.
  type: str
  returned: success
driver_version:
  description: Version of the NVIDIA driver, empty without one.
  type: str
  returned: success
complete:
  description: Whether every GPU could be read.
  type: bool
  returned: success
gpus:
  description: The physical GPUs, as C(index), C(uuid), C(model), C(pci_address), C(memory_bytes) (null where it cannot
    be read), C(mig_capable), C(mig_enabled), C(mig_pending), C(complete).
  type: list
  returned: success
devices:
  description: What containers can be given (a whole GPU or a MIG instance), as C(id), C(uuid), C(gpu_uuid),
    C(gpu_index), C(mig_index), C(gi_id), C(ci_id), C(placement) (C(start) and C(size) in memory slices), C(profile),
    C(memory_bytes), C(weight), C(model).
  type: list
  returned: success
models:
  description: The product names, each once.
  type: list
  returned: success
problems:
  description: What is wrong, as C(kind), C(gpu_index), C(gpu_uuid), C(message), C(fix).
  type: list
  returned: success
"""

import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ds01_module import run_module

try:
    from ds01.gpu.inventory import read_inventory
    from ds01.gpu.model import Inventory
    from ds01.gpu.nvml import Kind, NvmlError, Session
    from ds01.gpu.snapshot import plain
except ImportError as error:
    IMPORT_ERROR = error
else:
    IMPORT_ERROR = None


def read(_module: AnsibleModule) -> dict[str, Any]:
    """Read the GPUs."""
    if IMPORT_ERROR is not None:
        fix = f"set ansible_python_interpreter to /opt/ds01/current/bin/python (this is {sys.executable})"
        return {"failed": True, "msg": f"{missing_required_lib('ds01')} ({IMPORT_ERROR}): {fix}"}
    found, reason = Inventory(()), ""
    try:
        with Session() as session:
            found = read_inventory(session)
    except NvmlError as error:
        if error.kind is not Kind.UNAVAILABLE:
            return {"failed": True, "msg": str(error)}
        reason = str(error)
    return {
        "changed": False,
        "available": not reason,
        "reason": reason,
        "driver_version": found.driver_version,
        "complete": found.complete,
        "gpus": [{name: value for name, value in plain(gpu).items() if name != "devices"} for gpu in found.gpus],
        "devices": [{"id": device.id} | plain(device) for device in found.devices],
        "models": sorted({gpu.model for gpu in found.gpus}),
        "problems": plain(found.problems),
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(read, argument_spec={})


if __name__ == "__main__":
    main()
