#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""One event in the host's event log."""

DOCUMENTATION = r"""
---
module: ds01_event
short_description: Record one event on a host
description:
  - Writes one event to the host's event log and journal, as every part of DS01 does. Nothing in check mode.
options:
  type:
    description: Type of the event, noun.verb.
    type: str
    required: true
  decision:
    description: What was decided.
    type: str
    choices: [allowed, refused, changed, warned, stopped, failed]
    required: true
  subject:
    description: What it is about, as C(kind), C(name), C(id).
    type: dict
  reason:
    description: One sentence for people.
    type: str
  details:
    description: Anything else.
    type: dict
author: DS01
"""

EXAMPLES = r"""
- name: Record that a policy came into force
  ds01_event:
    type: policy.load
    decision: changed
    subject: {kind: policy, name: /etc/ds01/resource-limits.yaml}
"""

RETURN = r"""
id:
  description: Id of the event.
  type: str
  returned: when not in check mode
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.events import record
from ansible.module_utils.ds01_module import run_module


def write(module: AnsibleModule) -> dict:
    """Write the event."""
    return {"changed": True} if module.check_mode else {"changed": True, "id": record(**module.params)}


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        write,
        argument_spec={
            "type": {"type": "str", "required": True},
            "decision": {
                "type": "str",
                "choices": ["allowed", "refused", "changed", "warned", "stopped", "failed"],
                "required": True,
            },
            "subject": {"type": "dict"},
            "reason": {"type": "str"},
            "details": {"type": "dict"},
        },
    )


if __name__ == "__main__":
    main()
