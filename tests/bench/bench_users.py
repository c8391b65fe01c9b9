"""500 people: one call of our module against a loop of ansible.builtin tasks, on the same host in the same run.

The loop makes the account, ~/.ssh and authorized_keys, which is less than the module does (scratch, expiry, private
homes, verification). The whole loop takes too long, so it is timed for 8, 16 and 32 people, fresh ones each time. The
table shows that a person does not become cheaper with more of them; the cheapest rate seen, which favours the loop,
gives 500.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import testhost
from tests.unit.users.people_keys import key

PEOPLE = 500
STEPS = (8, 16, 32)
RATIO = 20.0
MODULE = """
- hosts: all
  gather_facts: false
  tasks:
    - ds01_users:
        people: "{{ people }}"
"""
LOOP = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.user:
        name: "{{ item.name }}"
        comment: "{{ item.comment }}"
        shell: /bin/bash
        groups: [ds01-users]
        append: true
      loop: "{{ people }}"
    - ansible.builtin.file:
        path: "/home/{{ item.name }}/.ssh"
        state: directory
        owner: "{{ item.name }}"
        group: "{{ item.name }}"
        mode: "0700"
      loop: "{{ people }}"
    - ansible.builtin.copy:
        dest: "/home/{{ item.name }}/.ssh/authorized_keys"
        content: "{{ item.ssh_keys | join('\\n') }}\\n"
        owner: "{{ item.name }}"
        group: "{{ item.name }}"
        mode: "0600"
      loop: "{{ people }}"
"""


@pytest.fixture(scope="module")
def bare_host() -> Iterator[testhost.LabHost]:
    with testhost.fresh() as host:
        yield host


def _people(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"s{number:05}",
            "comment": f"Student {number}",
            "groups": ["ds01-users"],
            "ssh_keys": [key(number)],
            "expires": "2099-03-31",
        }
        for number in range(first, first + count)
    ]


def _seconds(host: testhost.LabHost, folder: Path, playbook: str, people: list[dict[str, Any]]) -> float:
    (folder / "play.yml").write_text(playbook)
    (folder / "people.json").write_text(json.dumps({"people": people}))
    start = time.monotonic()
    host.play(str(folder / "play.yml"), "-e", f"@{folder / 'people.json'}")
    return time.monotonic() - start


def test_500_people_against_a_loop(bare_host: testhost.LabHost, tmp_path: Path):
    _seconds(bare_host, tmp_path, MODULE, [])
    first = _seconds(bare_host, tmp_path, MODULE, _people(0, PEOPLE))
    again = _seconds(bare_host, tmp_path, MODULE, _people(0, PEOPLE))
    loop = [(step, _seconds(bare_host, tmp_path, LOOP, _people(10_000 * step, step))) for step in STEPS]
    rate = min(seconds / count for count, seconds in loop)
    ratio = rate * PEOPLE / first
    rows = [("loop of user, file, copy", count, seconds) for count, seconds in loop]
    rows += [
        ("  at its cheapest rate", PEOPLE, rate * PEOPLE),
        ("ds01_users, fresh", PEOPLE, first),
        ("ds01_users, nothing to do", PEOPLE, again),
    ]
    lines = ["", f"{'':28}{'people':>8}{'seconds':>10}{'s/person':>10}"]
    lines += [f"{name:28}{count:8}{seconds:10.1f}{seconds / count:10.3f}" for name, count, seconds in rows]
    lines.append(f"{'ratio (fresh)':28}{ratio:28.0f}")
    print("\n".join(lines))
    assert ratio >= RATIO
