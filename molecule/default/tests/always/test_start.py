"""What the host does by itself when it starts."""

import pytest


@pytest.mark.parametrize("job", ["expiry", "slices"])
def test_the_timer_runs_and_will_at_the_next_start(host, job):
    timer = host.service(f"ds01-enforce-{job}.timer")
    assert timer.is_enabled
    assert timer.is_running


def test_logins_are_capped_and_administrators_are_not(host, slices):
    for user, capped in (("alice", True), ("erin", False)):
        uid = host.user(user).uid
        host.check_output(f"systemctl start user@{uid}.service")
        try:
            assert (slices.tasks_max(f"user-{uid}.slice") == 4096) is capped
        finally:
            host.check_output(f"systemctl stop user@{uid}.service")
