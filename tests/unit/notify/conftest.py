"""A ledger, a mail server, a webhook, and a policy that names them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ds01 import events
from ds01.ledger import Ledger, lifecycle, messages
from ds01.ledger.messages import Delivery
from ds01.lifecycle.acts import Outcome
from ds01.notify import dispatch
from ds01.policy import load_policy
from tests.unit.ledger.conftest import ledger, path, time
from tests.unit.ledger.machine import Time
from tests.unit.notify.receivers import MailServer, Webhook, mail_server, webhook

__all__ = ["ledger", "path", "time"]

ALICE = 61_001
"""Has no account here: her login is her number."""


class Office:
    """One place to say things, to send them, and to look at what came of it."""

    def __init__(self, folder: Path, ledger: Ledger, time: Time, mail: MailServer, hook: Webhook) -> None:
        self.folder, self.ledger, self.time, self.mail, self.hook = folder, ledger, time, mail, hook
        self.secret = folder / "webhook"
        self.write_secret(f"http://127.0.0.1:{hook.port}/workflows/x?sig=s3cret")
        (folder / "pts").mkdir()
        self.policy: dict[str, Any] = {
            "default_group": "student",
            "groups": {"student": {}},
            "notifications": {
                "channels": ["email", "teams"],
                "admin_channels": ["teams"],
                "email": {
                    "server": "127.0.0.1",
                    "port": mail.port,
                    "security": "none",
                    "sender": "lab@example.org",
                    "domain": "example.org",
                    "admins": ["root@example.org"],
                },
                "teams": {"webhook_file": str(self.secret)},
            },
        }

    @property
    def notifications(self) -> dict[str, Any]:
        section: dict[str, Any] = self.policy["notifications"]
        return section

    def only(self, *channels: str) -> None:
        self.notifications["channels"] = list(channels)

    def write_secret(self, text: str) -> None:
        self.secret.write_text(text + "\n")
        self.secret.chmod(0o600)

    def tables(self) -> dict[str, Any]:
        file = self.folder / "policy.yaml"
        file.write_text(yaml.safe_dump(self.policy))
        found: dict[str, Any] = load_policy(file).policy.tables
        return found

    def place(self, **more: Any) -> dispatch.Place:
        tables = self.tables()
        return dispatch.Place(
            ledger=self.ledger.path,
            lock=self.folder / "lock",
            terminals=str(self.folder / "pts"),
            tables=lambda _: tables,
            clock=self.time,
            **more,
        )

    def tell(self, text: str, kind: lifecycle.NoticeKind = "warning", uid: int = ALICE, subject: str = "job") -> None:
        with self.ledger.transaction() as tx:
            lifecycle.tell(tx, uid, kind, f"{subject}._.{uid}", text)

    def send(self, **more: Any) -> Outcome:
        return dispatch.run(self.place(**more))

    def delivered(self, notice: int = 1) -> dict[str, Delivery]:
        with self.ledger.read() as view:
            return {one.channel: one for one in messages.deliveries(view, notice)}

    def states(self, notice: int = 1) -> dict[str, str]:
        return {channel: one.state for channel, one in self.delivered(notice).items()}

    def mailed(self) -> list[str]:
        return [body(mail) for mail in self.mail.mails]


def body(mail: Any) -> str:
    text: str = mail.get_content()
    return text


def texts_of(lines: Sequence[str], *parts: str) -> list[str]:
    """The lines that hold all of these."""
    return [line for line in lines if all(part in line for part in parts)]


@pytest.fixture
def office(tmp_path: Path, ledger: Ledger, time: Time, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events" / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "no-journal")
    monkeypatch.setattr("ds01.notify.measure.slices", dict)
    folder = tmp_path / f"office-{os.getpid()}"
    folder.mkdir()
    with mail_server() as mail, webhook() as hook:
        yield Office(folder, ledger, time, mail, hook)
