"""Who may run the jobs of a host."""

import os

import pytest

from ds01.cli.enforce import enforce
from ds01.cli.main import run


@pytest.mark.parametrize("job", sorted(enforce.commands))
def test_only_root_makes_a_host_keep_to_its_policy(monkeypatch, capfd, job: str):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(["enforce", job]) == 1
    assert "only root may make this host keep to its policy: run the command with sudo" in capfd.readouterr().err
    assert run(["enforce", job, "--help"]) == 0
    assert "Usage:" in capfd.readouterr().out
