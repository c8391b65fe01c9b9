"""How a virtual machine is found and reached."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from lab import vm_disk, vm_state
from lab.process import ROOT


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(vm_state, "HOME", tmp_path / "a directory")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    state = vm_state.State("vm-one")
    state.directory.mkdir(parents=True)
    return state


def test_ssh_finds_the_machine_by_its_name(machine):
    machine.write_connection(45678)
    shown = subprocess.run(
        ["ssh", "-G", "-F", machine.ssh_config, "vm-one"], capture_output=True, text=True, check=True
    ).stdout
    options = dict(line.split(" ", 1) for line in shown.splitlines())
    assert (options["hostname"], options["port"], options["user"]) == ("127.0.0.1", "45678", "root")
    assert options["identityfile"] == str(vm_state.key())
    assert options["userknownhostsfile"].strip('"') == str(machine.directory / "known_hosts")


def test_the_inventory_gives_ansible_the_same_way_and_the_labs_variables(machine):
    machine.write_connection(45678)
    machine.write_connection(45679)
    hosts = yaml.safe_load(machine.inventory.read_text())["ds01"]["hosts"]
    assert hosts["vm-one"]["ansible_connection"] == "ssh"
    assert str(machine.ssh_config) in hosts["vm-one"]["ansible_ssh_common_args"]
    assert (machine.inventory.parent / "group_vars").resolve() == ROOT / "lab" / "inventory" / "group_vars"
    assert json.loads(machine.inventory.read_text())


def test_a_process_that_took_over_the_number_is_not_the_machine(machine):
    machine.pidfile.write_text(f"{os.getpid()}\n")
    assert machine.pid() is None
    machine.end()


def test_the_machine_is_known_by_its_disk_and_ends(machine):
    argv = ["sh", "-c", "echo ready; exec >&-; sleep 60; :", machine.disk]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        # Its arguments are there to be read once it has said something.
        assert process.stdout.readline() == b"ready\n"
        machine.pidfile.write_text(f"{process.pid}\n")
        assert machine.pid() == process.pid
        process.terminate()
        process.wait()
        assert machine.pid() is None


@pytest.mark.usefixtures("machine")
def test_the_key_is_made_once():
    first = vm_state.key().read_bytes()
    assert vm_state.key().read_bytes() == first
    assert vm_state.key().stat().st_mode & 0o077 == 0


def test_a_machine_has_all_that_the_container_host_has():
    assert {"docker.io", "libpam-systemd", "linux-image-cloud-amd64"} <= set(vm_disk.contents())
