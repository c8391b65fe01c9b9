"""What people are to be told arrives: once, in time, whatever servers do and whenever a pass dies."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ds01 import events
from ds01.ledger import Ledger, lifecycle
from ds01.monitor import history
from ds01.monitor.model import Sample
from ds01.notify import dispatch, mail
from ds01.notify.rules import DAY_MS, HOUR_MS, MINUTE_MS
from tests.unit.monitor.conftest import run_by
from tests.unit.notify.conftest import ALICE, Office, body, texts_of
from tests.unit.notify.receivers import WAIT_S, certificate


def test_a_warning_goes_every_way_once(office: Office):
    office.tell("idle for 24 min: stopped in 6 min")
    assert office.send().problems == []
    assert office.send().lines == []
    (letter,) = office.mail.mails
    assert (letter["To"], letter["From"]) == (f"{ALICE}@example.org", "lab@example.org")
    assert str(letter["Subject"]).endswith(": warning: job")
    assert texts_of(body(letter).splitlines(), "warning: job: idle for 24 min: stopped in 6 min")
    assert texts_of(office.hook.texts(), "warning: job: idle for 24 min")
    assert office.hook.texts()[1] == f"to {ALICE}"
    assert office.states() == {"email": "sent", "teams": "sent"}


def test_a_card_is_what_a_workflow_takes_and_a_name_cannot_write_a_link_into_it(office: Office):
    office.only("teams")
    office.tell("[click](https://evil.example)")
    office.send()
    (card,) = office.hook.cards
    content = card["attachments"][0]["content"]
    assert card["type"] == "message"
    assert card["attachments"][0]["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert content["type"] == "AdaptiveCard"
    # TextBlock renders Markdown, a TextRun does not.
    assert {block["type"] for block in content["body"]} == {"RichTextBlock"}
    assert {run["type"] for block in content["body"] for run in block["inlines"]} == {"TextRun"}
    assert office.hook.paths == ["/workflows/x?sig=s3cret"]


def test_what_comes_together_is_one_message_and_no_longer_than_a_screen(office: Office):
    for number in range(30):
        office.tell(f"text {number}")
    office.send()
    (letter,) = office.mail.mails
    lines = body(letter).splitlines()
    assert len(texts_of(lines, "warning: job: text")) == 20
    assert texts_of(lines, "10 earlier ones")
    assert str(letter["Subject"]).endswith("and 29 more")
    assert {office.states(number)["email"] for number in range(1, 31)} == {"sent"}


def test_failures_are_tried_again_until_it_is_taken(office: Office):
    office.only("teams")
    office.hook.answers = [500, 503, 429]
    office.tell("text")
    spent = []
    for pause in (0, MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS):
        if pause:
            # Not a moment too early.
            office.time.spend(pause - 1)
            assert office.send().lines == []
            office.time.spend(1)
        spent.append(bool(office.send().problems))
    assert spent == [True, True, True, False]
    assert len(office.hook.cards) == 4
    assert len({json.dumps(card) for card in office.hook.cards}) == 1
    assert office.states() == {"teams": "sent"}


def test_one_way_that_is_slow_keeps_no_other_waiting_and_no_pass_for_ever(office: Office):
    office.hook.go.clear()
    office.tell("text")
    outcome = office.send(end_s=0.2)
    assert texts_of(outcome.problems, "teams: not done in time")
    # On a slow machine the mail is still on its way.
    deadline = time.monotonic() + WAIT_S
    while office.states()["email"] != "sent":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert office.states()["teams"] == "waiting"


def test_a_mail_server_that_says_nothing_is_tried_again(office: Office, monkeypatch: pytest.MonkeyPatch):
    office.only("email")
    office.mail.silent = True
    office.tell("text")
    with monkeypatch.context() as patch:
        patch.setattr(mail.Mail.__init__, "__kwdefaults__", {"timeout_s": 0.2})
        assert texts_of(office.send().problems, "mail server 127.0.0.1", "timed out")
    office.mail.silent = False
    office.time.spend(MINUTE_MS)
    assert office.send().problems == []
    assert office.states() == {"email": "sent"}


@pytest.mark.parametrize(("verb", "later"), [("RCPT", False), ("MAIL", True), ("EHLO", True)])
def test_what_is_refused_for_good_is_not_tried_again_and_the_rest_is(office: Office, verb: str, later: bool):
    office.only("email")
    office.mail.refuses = {verb: "550 no", "HELO": "550 no"}
    office.tell("text")
    office.send()
    assert office.states() == {"email": "waiting" if later else "dropped"}
    office.mail.refuses = {"RCPT": "450 later"}
    office.tell("another")
    office.send()
    office.mail.refuses = {}
    office.time.spend(MINUTE_MS)
    office.send()
    assert office.states(2) == {"email": "sent"}
    assert len(office.mail.mails) == 1 + later


def test_nothing_is_tried_for_longer_than_a_day_nor_sent_after_it(office: Office):
    office.only("teams")
    office.hook.answers = [500] * 100
    office.tell("text")
    for _ in range(24):
        office.time.spend(HOUR_MS)
        office.send()
    tries = len(office.hook.cards)
    office.time.spend(HOUR_MS)
    office.send()
    assert (office.states(), len(office.hook.cards)) == ({"teams": "dropped"}, tries)


def test_a_clock_that_was_set_back_keeps_nothing_back(office: Office):
    office.only("teams")
    office.hook.answers = [500]
    office.tell("text")
    office.send()
    office.time.set_wall(-30 * DAY_MS)
    office.send()
    assert office.states() == {"teams": "sent"}


def test_nobody_gets_more_than_so_many_messages_an_hour_and_nothing_is_lost(office: Office):
    office.only("email")
    office.notifications["max_per_hour"] = 3
    for number in range(10):
        office.tell(f"text {number}.")
        office.send()
        office.time.spend(MINUTE_MS)
    assert len(office.mail.mails) == 3
    office.tell("for another", uid=ALICE + 1)
    office.send()
    assert len(office.mail.mails) == 4
    office.time.spend(HOUR_MS - 9 * MINUTE_MS)
    office.send()
    assert len(office.mail.mails) == 5
    said = "".join(office.mailed())
    assert all(said.count(f"text {number}.") == 1 for number in range(10))


def test_in_quiet_hours_only_warnings_go_out_and_take_the_rest_along(office: Office):
    office.only("email")
    # The clock of the ledger shows 13:33 UTC.
    office.notifications["quiet_hours"] = "12:00-15:00"
    office.tell("removed", "removed")
    office.send()
    assert office.mail.mails == []
    office.tell("about to end")
    office.send()
    assert texts_of(office.mailed(), "removed", "about to end")
    office.tell("stopped", "stopped")
    office.send()
    office.time.spend(2 * HOUR_MS)
    office.send()
    assert len(office.mail.mails) == 2


def test_who_has_no_address_is_told_otherwise(office: Office):
    office.notifications["email"] |= {"domain": None, "addresses": {str(ALICE + 1): "bob@example.org"}}
    office.tell("text")
    office.tell("text", uid=ALICE + 1)
    assert office.send().problems == []
    assert office.states() == {"email": "dropped", "teams": "sent"}
    assert [letter["To"] for letter in office.mail.mails] == ["bob@example.org"]


def test_what_went_out_once_does_not_go_out_again(office: Office):
    with office.ledger.transaction() as tx:
        lifecycle.tell(tx, ALICE, "warning", "old", "text")
        tx.change("INSERT INTO meta VALUES ('notices spooled', '1')")
    assert office.send().lines == []


def test_a_rehearsal_sends_nothing_and_changes_nothing(office: Office):
    office.tell("text")
    lines = dispatch.run(office.place(), dry_run=True).lines
    assert lines == [f"email: would tell {ALICE} 1 notices", f"teams: would tell {ALICE} 1 notices"]
    assert (office.mail.mails, office.hook.cards, office.states()) == ([], [], {})


def test_two_passes_at_once_send_once(office: Office):
    office.only("teams")
    office.hook.go.clear()
    office.tell("text")
    first = threading.Thread(target=office.send)
    first.start()
    assert office.hook.asked.wait(WAIT_S)
    assert office.send().lines == ["another pass is under way"]
    office.hook.go.set()
    first.join(WAIT_S)
    office.time.spend(HOUR_MS)
    office.send()
    assert (len(office.hook.cards), office.states()) == (1, {"teams": "sent"})


# What a pass is that is killed: its own process, in the middle of a mail.
KILLED = """
import json, sys
from pathlib import Path
from ds01 import events
from ds01.ledger import Moment
from ds01.notify import dispatch, measure
measure.slices = dict
given = json.loads(sys.argv[1])
folder = Path(given["folder"])
events.EVENTS_FILE, events.JOURNAL_SOCKET = folder / "events.jsonl", folder / "none"
dispatch.run(dispatch.Place(
    ledger=Path(given["ledger"]), lock=folder / "lock", terminals=str(folder / "pts"),
    tables=lambda _: json.loads((folder / "tables.json").read_text()), clock=lambda: Moment(*given["moment"]),
))
"""


def test_a_pass_that_is_killed_loses_nothing_and_repeats_only_what_nobody_answered(office: Office):
    office.only("email")
    office.tell("first")
    office.send()
    office.mail.hangs = True
    office.tell("second")
    office.mail.arrived.clear()
    (office.folder / "tables.json").write_text(json.dumps(office.tables()))
    given = {"folder": str(office.folder), "ledger": str(office.ledger.path), "moment": list(office.time())}
    with subprocess.Popen([sys.executable, "-c", KILLED, json.dumps(given)]) as child:
        assert office.mail.arrived.wait(WAIT_S)
        child.send_signal(signal.SIGKILL)
        assert child.wait(WAIT_S) == -signal.SIGKILL
    office.mail.hangs = False
    office.tell("third")
    office.time.spend(MINUTE_MS)
    office.send()
    said = [[word for word in ("first", "second", "third") if word in text] for text in office.mailed()]
    assert sorted(said) == [["first"], ["second"], ["third"]]
    # The one that may have arrived has the same number again.
    assert len(office.mail.seen) == 4
    assert len(set(office.mail.seen)) == 3
    assert office.states(2) == office.states(3) == {"email": "sent"}


def test_mail_is_encrypted_checked_and_logged_in_by_default(office: Office, monkeypatch: pytest.MonkeyPatch):
    cert, office.mail.tls = certificate(office.folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    password = office.folder / "password"
    password.write_text("p4ss word\n")
    password.chmod(0o600)
    office.mail.login = "\0lab\0p4ss word"
    office.only("email")
    office.notifications["email"] |= {
        "server": "localhost", "security": "starttls", "user": "lab", "password_file": str(password),
    }  # fmt: skip
    office.tell("text")
    assert office.send().problems == []
    assert (office.mail.encrypted, office.mail.logins) == ([True], ["\0lab\0p4ss word"])
    # A certificate of nobody we know, no TLS at all, and a wrong password: nothing is said.
    monkeypatch.delenv("SSL_CERT_FILE")
    office.tell("secret of alice")
    assert texts_of(office.send().problems, "certificate cannot be trusted")
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    office.mail.login = "\0lab\0another"
    office.time.spend(MINUTE_MS)
    assert texts_of(office.send().problems, "login and password were refused")
    office.mail.tls = None
    office.time.spend(HOUR_MS)
    assert texts_of(office.send().problems, "does not offer")
    assert len(office.mail.seen) == 1
    assert "p4ss" not in trail()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_secret_that_others_can_read_or_change_is_not_used(office: Office, mode: int):
    office.secret.chmod(mode)
    office.only("teams")
    office.tell("text")
    (problem,) = office.send().problems
    assert f"chmod 600 {office.secret}" in problem
    assert office.hook.cards == []
    assert stat.S_IMODE(office.secret.stat().st_mode) == mode
    office.secret.chmod(0o600)
    office.time.spend(MINUTE_MS)
    assert office.send().problems == []


@pytest.mark.parametrize("text", ["http://example.org/x", "ftp://127.0.0.1/x", "s3cret", "https://", "two\nlines"])
def test_an_address_that_is_none_is_not_posted_to_nor_shown(office: Office, text: str):
    office.write_secret(text)
    office.only("teams")
    office.tell("text")
    (problem,) = office.send().problems
    assert str(office.secret) in problem
    assert "example.org" not in problem
    assert "s3cret" not in problem
    assert office.states() == {"teams": "waiting"}


def test_neither_what_fails_nor_the_trail_shows_a_secret(office: Office):
    office.notifications["admin_channels"] = ["email"]
    office.only("teams")
    office.hook.answers = [404]
    office.tell("text")
    problems = office.send().problems
    office.write_secret("https://127.0.0.1:1/workflows/x?sig=s3cret")
    office.time.spend(MINUTE_MS)
    problems += office.send().problems
    assert len(problems) == 2
    assert "s3cret" not in "".join(problems) + trail()


def test_administrators_hear_once_what_fails(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events.time, "time", lambda: office.time.wall / 1000)
    office.send()
    office.time.spend(30_000)

    def fails(reason: str) -> None:
        subject = {"kind": "device", "name": "0:1", "gpu": "MIG-1"}
        events.record("health.fail", subject=subject, decision="warned", reason=reason, fix="reset it")

    fails("Xid 79")
    events.record("health.ok", decision="changed", reason="fine")
    events.record("gateway.refuse", decision="failed", reason="somebody asked for too much")
    for _ in range(3):
        office.send()
        office.time.spend(5_000)
    fails("Xid 79")
    fails("Xid 48")
    office.send()
    said = ["\n".join(office.hook.texts(number)) for number in range(len(office.hook.cards))]
    assert [(text.count("Xid 79"), text.count("Xid 48")) for text in said] == [(1, 0), (0, 1)]
    assert "health.fail MIG-1: Xid 79 reset it" in said[0]
    assert "to the administrators" in said[0]


def test_administrators_hear_once_a_day_whose_containers_nobody_owns(office: Office, tmp_path: Path):
    latest = tmp_path / "latest.json"

    def runs(*names: str) -> None:
        now = office.time()
        sample = Sample(at=now.wall_ms, boot=now.boot, boot_ms=now.boot_ms, took_ms=1)
        history.write_latest(replace(sample, containers=tuple(run_by(name, ALICE) for name in names)), latest)

    def hears(after_ms: int) -> int:
        office.time.spend(after_ms)
        office.send(latest=latest)
        return len(office.hook.cards)

    # A directory service that is away for a moment is nobody's business.
    runs("left")
    assert (hears(0), hears(50 * MINUTE_MS)) == (0, 0)
    runs()
    assert hears(MINUTE_MS) == 0
    runs("left")
    assert (hears(MINUTE_MS), hears(59 * MINUTE_MS)) == (0, 0)
    assert (hears(MINUTE_MS), hears(12 * HOUR_MS), hears(13 * HOUR_MS)) == (1, 1, 2)
    said = "\n".join(office.hook.texts())
    assert f"no limit of time ends: left (uid {ALICE})" in said
    assert "docker stop" in said


def test_administrators_hear_on_another_way_that_one_does_not_work(office: Office, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events.time, "time", lambda: office.time.wall / 1000)
    office.notifications["admin_channels"] = ["email"]
    office.hook.answers = [500] * 4
    office.tell("text")
    for _ in range(4):
        office.send()
        office.time.spend(20 * MINUTE_MS)
    assert len([text for text in office.mailed() if "health.fail teams" in text]) == 1


def trail() -> str:
    return events.EVENTS_FILE.read_text() if events.EVENTS_FILE.exists() else ""


def test_no_name_of_anybody_steers_a_mail(office: Office):
    office.only("email")
    office.tell("x\r\nBcc: all@example.org\r\n\r\nbody", subject="job\r\nSubject: hello\x1b[2J")
    office.send()
    (letter,) = office.mail.mails
    assert "Bcc" not in letter
    assert len(letter.get_all("Subject", [])) == 1
    assert "\x1b" not in body(letter) + str(letter["Subject"])
    assert len(office.mail.to) == 1


def test_a_ledger_that_is_missing_is_said(tmp_path: Path, office: Office):
    place = office.place()
    gone = dispatch.Place(**{**vars(place), "ledger": tmp_path / "none.db"})
    with pytest.raises(Exception, match=r"none\.db"):
        dispatch.run(gone)


def test_whoever_is_told_by_the_ledger_is_told_the_same_thing_again_only_later(ledger: Ledger):
    with ledger.transaction() as tx:
        assert lifecycle.tell(tx, 1, "notice", "x", "text", repeat_after_ms=1000)
        assert not lifecycle.tell(tx, 1, "notice", "x", "text", repeat_after_ms=1000)
        assert lifecycle.tell(tx, 2, "notice", "x", "text", repeat_after_ms=1000)
        assert lifecycle.tell(tx, 1, "notice", "x", "text")
