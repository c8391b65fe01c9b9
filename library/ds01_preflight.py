#!/usr/bin/python
# Copyright: the DS01 authors
# SPDX-License-Identifier: MIT
"""Look at a host before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_preflight
short_description: Look at a host before anything is changed
description:
  - Reports everything that stands in the way of a deployment at once, and what a deployment does to the containers that
    are there. Nothing on the host is changed.
  - With O(state=begun), notes in C(/run) that a deployment is under way, unless another one is.
options:
  state:
    description: Whether to look, to begin a deployment, or to say that it is over.
    type: str
    choices: [looked, begun, released]
    default: looked
  accept:
    description: Names of findings that shall not stop the deployment.
    type: list
    elements: str
    default: []
  allow_cgroup_v1:
    description: Whether a host with cgroup v1 will do.
    type: bool
    default: false
  slices:
    description: What the policy says of slices, for the names in it.
    type: dict
    default: {}
  engine:
    description: The section C(engine) of the policy, to know whether the engine would be restarted.
    type: dict
  gpu_allocation:
    description: The section C(gpu_allocation) of the policy, held against the GPUs of this host.
    type: dict
  engine_settings:
    description: Further settings for the engine's C(daemon.json).
    type: dict
    default: {}
  accounts:
    description: People for whom accounts are made.
    type: list
    elements: str
    default: []
  admin_groups:
    description: Groups of administrators.
    type: list
    elements: str
    default: []
  run:
    description: What the lookup C(ds01_run) returned.
    type: dict
    required: true
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Look at the host
  ds01_preflight:
    slices: "{{ policy_resolved.slices }}"
    engine: "{{ policy_resolved.engine }}"
    run: "{{ lookup('ds01_run') }}"
"""

RETURN = r"""
ansible_facts:
  description: C(preflight_host), what the roles need to know of the host.
  type: dict
  returned: state is looked
refusals:
  description: What stops the deployment, each C(path - value - expected - fix).
  type: list
  elements: str
  returned: state is looked
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.engine import adopt
from ansible.module_utils.ds01.engine.apply import Wish
from ansible.module_utils.ds01.host import lease
from ansible.module_utils.ds01.host.findings import Finding
from ansible.module_utils.ds01.host.preflight import OTHER_RUN, Question, look, others
from ansible.module_utils.ds01.slices.spec import SliceSpec
from ansible.module_utils.ds01_module import run_module


def look_around(module: AnsibleModule, me: lease.Holder) -> dict:
    """Look and report, or refuse."""
    options = module.params
    slices = options["slices"]
    place = adopt.placement(SliceSpec.from_dict(slices))
    report = look(
        Question(
            allow_cgroup_v1=options["allow_cgroup_v1"],
            unix_groups=slices.get("unix_groups", {}),
            admin_groups=options["admin_groups"],
            members=slices.get("members", {}),
            group_of=lambda login: place(login)[0],
            accounts=options["accounts"],
            gpu_allocation=options["gpu_allocation"],
            wish=Wish.of(options["engine"], options["engine_settings"]),
            me=me,
            alive=options["run"]["alive"],
        )
    )
    refusals = report.refusals(options["accept"])
    warnings = [str(finding) for finding in report.findings if finding not in refusals]
    facts = {"ansible_facts": {"preflight_host": report.facts}}
    return {"changed": False, "warnings": warnings, **facts, **_verdict(refusals)}


def begin(module: AnsibleModule, me: lease.Holder) -> dict:
    """Note that this deployment is under way, unless another one is."""
    with lease.undisturbed():
        refusals = [] if OTHER_RUN in module.params["accept"] else others(me, module.params["run"]["alive"])
        if not refusals and not module.check_mode:
            lease.take(me)
    return {"changed": False, **_verdict(refusals)}


def _verdict(refusals: list[Finding]) -> dict:
    listed = [str(finding) for finding in refusals]
    if not listed:
        return {"refusals": []}
    return {"failed": True, "msg": "Nothing was changed. First:\n" + "\n".join(listed), "refusals": listed}


def answer(module: AnsibleModule) -> dict:
    """Look, begin or release."""
    me = lease.Holder(**module.params["run"]["me"])
    if module.params["state"] == "looked":
        return look_around(module, me)
    if module.params["state"] == "begun":
        return begin(module, me)
    if not module.check_mode:
        lease.release(me)
    return {"changed": False}


def main() -> None:
    """Run as an Ansible module."""
    lists = {"type": "list", "elements": "str", "default": []}
    run_module(
        answer,
        argument_spec={
            "state": {"type": "str", "choices": ["looked", "begun", "released"], "default": "looked"},
            "accept": lists,
            "allow_cgroup_v1": {"type": "bool", "default": False},
            "slices": {"type": "dict", "default": {}},
            "engine": {"type": "dict"},
            "gpu_allocation": {"type": "dict"},
            "engine_settings": {"type": "dict", "default": {}},
            "accounts": lists,
            "admin_groups": lists,
            "run": {"type": "dict", "required": True},
        },
        required_if=[("state", "looked", ["engine"])],
    )


if __name__ == "__main__":
    main()
