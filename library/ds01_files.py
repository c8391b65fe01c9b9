# SPDX-License-Identifier: MIT
"""Ansible module: many files and directories of root's in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_files
short_description: Write many files and directories of root's in one call
description:
  - Compares all of them, lets each new content be checked, then writes. Nothing is written if one content is refused.
  - Each file is written whole or not at all, with its mode whatever the umask is.
  - Needs nothing on the host but its Python.
options:
  directories:
    description: Directories that shall be there.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      mode: {description: Permission bits in octal., type: str, default: "0755"}
  files:
    description: Files that shall be there. Missing parent directories are made.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      content: {description: The whole content., type: str, required: true}
      mode: {description: Permission bits in octal., type: str, default: "0644"}
      validate: {description: "A command that accepts the content, %s being a file that has it.", type: str}
  stale:
    description: Patterns of absolute paths. Files of DS01 that match and are not in O(files) are removed; others stay.
    type: list
    elements: str
    default: []
author: DS01
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Write the timers
  ds01_files:
    files:
      - path: /etc/systemd/system/ds01-enforce-slices.timer
        content: "{{ lookup('ansible.builtin.template', 'etc/systemd/system/ds01-enforce.timer.j2') }}"
        validate: systemd-analyze verify %s
    stale: [/etc/systemd/system/ds01-enforce-*.timer]
"""

RETURN = r"""
changes:
  description: One line for each change that was made, or would be.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.fileset import Directory, File, FileSet
from ansible.module_utils.ds01_module import run_module

_PATH = {"type": "path", "required": True}


def write(module: AnsibleModule) -> dict:
    """Write what differs."""
    params = module.params
    wanted = FileSet(
        directories=[Directory(Path(item["path"]), int(item["mode"], 8)) for item in params["directories"]],
        files=[
            File(Path(item["path"]), item["content"], int(item["mode"], 8), item["validate"])
            for item in params["files"]
        ],
        stale=params["stale"],
    )
    changes = wanted.plan()
    if not module.check_mode:
        wanted.apply(changes)
    return {
        "changed": bool(changes),
        "changes": [f"{change.what} {change.path}" for change in changes],
        "diff": [
            {
                "before_header": str(change.path),
                "after_header": str(change.path),
                "before": change.before,
                "after": change.after,
            }
            for change in changes
        ],
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        write,
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": _PATH, "mode": {"default": "0755"}},
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": _PATH,
                    "content": {"required": True},
                    "mode": {"default": "0644"},
                    "validate": {},
                },
            },
            "stale": {"type": "list", "elements": "str", "default": []},
        },
    )


if __name__ == "__main__":
    main()
