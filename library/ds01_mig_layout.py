#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""The division of a host's GPUs into MIG instances."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_mig_layout
short_description: Divide GPUs into MIG instances without disturbing anybody
description:
  - Makes the GPUs of a host what the section C(gpu_allocation) of the policy says, with the smallest change. Instances
    that somebody uses are never removed; such a GPU waits, and a warning names who uses it.
  - Generates the container toolkit's CDI specification anew and checks that it names every device.
  - An impossible layout fails, and nothing is changed.
  - Runs where the package C(ds01) is installed, so with C(/opt/ds01/current/bin/python) as interpreter. Where that is
    not installed yet, check mode predicts a change and cannot say which.
options:
  allocation:
    description: The section C(gpu_allocation), as C(policy_resolved.gpu_allocation) has it.
    type: dict
    required: true
author: DS01
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Divide the GPUs
  ds01_mig_layout:
    allocation: "{{ policy_resolved.gpu_allocation }}"
  vars:
    ansible_python_interpreter: /opt/ds01/current/bin/python
"""

RETURN = r"""
plan:
  description: What happens to each GPU, line by line.
  type: list
  elements: str
  returned: when the package is installed
moved:
  description: UUID of each device that was rebuilt at its place, with the UUID of the new one.
  type: dict
  returned: when not in check mode
gone:
  description: UUIDs of devices that are not there any more.
  type: list
  elements: str
  returned: when not in check mode
"""

import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.ds01_module import run_module

try:
    from ds01.enforce.promised import Promised
    from ds01.gpu.nvml import NvmlError, Session
    from ds01.mig import apply as engine
    from ds01.mig import report
    from ds01.mig.model import Plan, Verdict
    from ds01.mig.wanted import Wanted, from_policy
    from ds01.problems import RefusedError, ReportedError
except ImportError as error:
    IMPORT_ERROR = error
else:
    IMPORT_ERROR = None


def answer(module: AnsibleModule) -> dict[str, Any]:
    """Plan, and unless in check mode carry it out."""
    if IMPORT_ERROR is not None:
        if module.check_mode:
            return {"changed": True, "msg": "The runtime is not installed yet; the GPUs are divided once it is."}
        fix = f"set ansible_python_interpreter to /opt/ds01/current/bin/python (this is {sys.executable})"
        return {"failed": True, "msg": f"{missing_required_lib('ds01')} ({IMPORT_ERROR}): {fix}"}

    def ask(states: list) -> Wanted:
        return from_policy(module.params["allocation"], states)

    try:
        with Session() as session:
            return predict(session, ask) if module.check_mode else change(session, ask)
    except NvmlError as error:
        return {"failed": True, "msg": f"{error}: {error.fix}".removesuffix(": ")}
    except RefusedError as error:
        return {"failed": True, "msg": f"The GPUs cannot be divided so; nothing was changed.\n{error}"}
    except ReportedError as error:
        return {"failed": True, "msg": str(error)}


def predict(session: Any, ask: Any) -> dict[str, Any]:
    """Say what would be done."""
    found, changed = engine.predict(session, ask, Promised())
    if problems := engine.refusals(found):
        raise RefusedError(problems)
    return {"changed": changed, "plan": report.lines(found), "diff": _diff(found), "warnings": _waiting(found)}


def change(session: Any, ask: Any) -> dict[str, Any]:
    """Do it, and say what came of it."""
    outcome = engine.change(session, ask, leases=Promised(), via="ansible")
    result = {
        "changed": outcome.changed,
        "plan": report.lines(outcome.plan),
        "moved": outcome.moved,
        "gone": outcome.gone,
        "diff": _diff(outcome.plan),
        "warnings": _waiting(outcome.after),
    }
    # A GPU that is broken must not keep everything else of a deployment from the host: it is warned of.
    broken = {gpu.state.name for gpu in outcome.after.having(Verdict.UNKNOWN)}
    if failures := {where: text for where, text in outcome.failures.items() if where not in broken}:
        said = "\n".join(f"{where}: {text}" for where, text in failures.items())
        return result | {"failed": True, "msg": f"Not everything could be changed; the next run goes on.\n{said}"}
    return result


def _waiting(found: Plan) -> list[str]:
    stuck = found.having(Verdict.WAITS, Verdict.RESET, Verdict.UNKNOWN)
    return [f"{gpu.state.name} stays as it is: {gpu.reason}: {gpu.fix}" for gpu in stuck]


def _diff(found: Plan) -> dict[str, str]:
    header = "MIG layout"
    before, after = report.now(gpu.state for gpu in found.gpus), report.then(found)
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def main() -> None:
    """Run as an Ansible module."""
    run_module(answer, argument_spec={"allocation": {"type": "dict", "required": True}})


if __name__ == "__main__":
    main()
