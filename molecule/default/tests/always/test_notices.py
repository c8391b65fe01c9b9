"""Messages go out from the service as the role installs it."""

from __future__ import annotations

from typing import Any


def test_the_service_that_brings_messages_works(host: Any) -> None:
    assert host.run("systemctl is-active ds01-enforce-notices.timer").rc == 0
    done = host.run("systemctl start ds01-enforce-notices.service")
    assert done.rc == 0, host.check_output("journalctl --unit ds01-enforce-notices --no-pager")
