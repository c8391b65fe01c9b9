"""The lab's connection plugin carries commands, files and become."""

import hashlib
import os

import pytest

_PLAYBOOK = """
- hosts: ds01
  gather_facts: false
  tasks:
    - name: Put
      ansible.builtin.copy:
        src: "{{ scratch }}/sent"
        dest: "/root/it's here"
        mode: "0600"
    - name: Get
      ansible.builtin.fetch:
        src: "/root/it's here"
        dest: "{{ scratch }}/received"
        flat: true
    - name: Become
      ansible.builtin.command: id -un
      become: true
      become_user: nobody
      register: who
      changed_when: false
    - name: Compare
      ansible.builtin.assert:
        that: who.stdout == "nobody"
"""


@pytest.mark.parametrize("pipelining", ["true", "false"])
def test_files_arrive_whole_in_both_directions_and_become_works(lab_host, tmp_path, pipelining):
    sent = os.urandom(3_000_000)
    (tmp_path / "sent").write_bytes(sent)
    (tmp_path / "play.yml").write_text(_PLAYBOOK)
    # Without pipelining a module travels as a file, which the unprivileged user must be able to read.
    environment = {"ANSIBLE_PIPELINING": pipelining, "ANSIBLE_SHELL_ALLOW_WORLD_READABLE_TEMP": "true"}
    lab_host.play(str(tmp_path / "play.yml"), f"--extra-vars=scratch={tmp_path}", env=environment)
    lab_host.sh('rm "/root/it\'s here"')
    assert hashlib.sha256((tmp_path / "received").read_bytes()).digest() == hashlib.sha256(sent).digest()


def test_a_host_that_is_not_there_is_unreachable_or_failed_never_ok(lab_host, tmp_path):
    (tmp_path / "play.yml").write_text("- hosts: ds01\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n")
    done = lab_host.play(str(tmp_path / "play.yml"), "--extra-vars=ansible_host=lab-nobody", check=False)
    assert done.returncode != 0
    assert "No such container" in done.stdout + done.stderr
