"""Names that mean somebody's image while it is pushed."""

from __future__ import annotations

import pytest

from ds01.gateway.pushing import Pushing
from ds01.gateway.refusals import Refused

NAME = "ghcr.io/lab/tool:1"


def test_only_who_pushes_by_a_name_sees_it_meanwhile():
    pushing = Pushing()
    with pushing.push(NAME, 1001):
        assert pushing.hides(NAME, 1002)
        assert not pushing.hides(NAME, 1001)
        for busy in (pushing.push(NAME, 1002), pushing.push(NAME, 1001), pushing.reading(["other", NAME])):
            with pytest.raises(Refused, match="being pushed"), busy:
                pass
        with pytest.raises(Refused, match="being pushed"):
            pushing.settled(NAME)
    pushing.settled(NAME)
    assert not pushing.hides(NAME, 1002)


def test_a_name_does_not_move_as_long_as_anybody_reads_it():
    pushing = Pushing()
    with pushing.reading([NAME, NAME]):
        with pushing.reading([NAME, "other"]):
            pass
        with pytest.raises(Refused, match="being read"), pushing.push(NAME, 1002):
            pass
        with pushing.push("other", 1002):
            pass
    with pushing.push(NAME, 1002):
        assert pushing.hides(NAME, 1001)
