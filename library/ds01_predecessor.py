#!/usr/bin/python
# Copyright: the DS01 authors
# SPDX-License-Identifier: MIT
"""Take an earlier DS01 out of service, or put it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_predecessor
short_description: Take an earlier DS01 out of service
description:
  - Sets aside its cron jobs first, then its services, commands, sudo rules, login scripts, slices, state and logs.
    Every file goes to a backup below C(/var/lib/ds01/predecessor). No container is stopped.
  - With O(state=restored), puts everything back.
options:
  state:
    description: Whether the earlier DS01 is out of service or as it was before.
    type: str
    choices: [retired, restored]
    default: retired
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Take the earlier DS01 out of service
  ds01_predecessor:
"""

RETURN = r"""
present:
  description: Whether an earlier DS01 is or was on this host.
  type: bool
  returned: always
taken:
  description: What was set aside, as kind and path.
  type: list
  elements: str
  returned: state is retired
configuration:
  description: Files that hold its policy.
  type: list
  elements: str
  returned: state is retired
kept:
  description: Backups whose place is taken, and that therefore stay.
  type: list
  elements: str
  returned: state is restored
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.host.retire import Retirement
from ansible.module_utils.ds01.host.traces import Traces
from ansible.module_utils.ds01_module import run_module


def retire(module: AnsibleModule) -> dict:
    """Set aside what is there."""
    traces = Traces()
    retirement = Retirement(traces)
    planned = retirement.planned()
    listed = [f"{trace.kind} {trace.path}" for trace in planned]
    changed = bool(planned) or (traces.present() and not retirement.settled())
    result = {
        "changed": changed,
        "present": traces.present(),
        "taken": listed,
        "configuration": [str(path) for path in traces.configuration()],
        "diff": {"before_header": "earlier DS01", "before": "".join(f"{line}\n" for line in listed), "after": ""},
    }
    if changed and not module.check_mode:
        retirement.retire(planned)
    return result


def restore(module: AnsibleModule) -> dict:
    """Put back what was set aside."""
    traces = Traces()
    retirement = Retirement(traces)
    changed = retirement.known()
    back = "".join(f"{path}\n" for path in retirement.restorable())
    kept = retirement.put_back() if changed and not module.check_mode else []
    diff = {"after_header": "earlier DS01", "before": "", "after": back}
    return {"changed": changed, "present": traces.present(), "kept": kept, "diff": diff}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        lambda module: retire(module) if module.params["state"] == "retired" else restore(module),
        argument_spec={"state": {"type": "str", "choices": ["retired", "restored"], "default": "retired"}},
    )


if __name__ == "__main__":
    main()
