"""What a person can bring about never fails the run for the others; what the host cannot do is a failure."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ds01.users.accounts import Accounts
from ds01.users.apply import Outcome, apply
from ds01.users.model import Person, PersonPlan
from ds01.users.plan import Plan, Settings
from ds01.users.quotaplan import QuotaPlan


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write the keys of one person, on a disk that answers with an error."""
    (tmp_path / "etc").mkdir()
    home = tmp_path / "home/anna"
    (home / ".ssh").mkdir(parents=True, mode=0o700)

    def run(number: int) -> Outcome:
        def refuse(_descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        settings = Settings(etc=tmp_path / "etc", home_base=str(home.parent), scratch_base=None)
        person = PersonPlan(Person("anna"), "anna", "local", os.getuid(), os.getgid(), str(home), keys_text="key\n")
        return apply(Plan(Accounts(tmp_path / "etc"), settings, people=[person]), QuotaPlan())

    return run


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EACCES])
def test_a_full_quota_is_the_persons_own_doing(applied, number: int):
    outcome = applied(number)
    assert outcome.failed == {}
    assert "~/.ssh" in outcome.left_alone["anna"]


def test_a_full_disk_is_not(applied):
    outcome = applied(errno.ENOSPC)
    assert outcome.left_alone == {}
    assert "anna" in outcome.failed
