"""Rules of messages that must hold for any text and at any time."""

from __future__ import annotations

from email import message_from_bytes, policy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ds01.ledger.messages import Entry
from ds01.notify import mail, near, rules, teams, terminal
from ds01.notify.measure import Use
from ds01.notify.message import compose
from ds01.policy.models.notifications import Notifications

NOW = 1_790_000_000_000
PARTS = (0.8, 1.0)
REPEAT = 4 * rules.HOUR_MS


def settings(**more: Any) -> dict[str, Any]:
    mailing = {"server": "localhost", "sender": "lab@example.org", "domain": "example.org"}
    return Notifications.model_validate({"email": mailing, **more}).model_dump(mode="json")


def entry(number: int, uid: int = 1000, text: str = "text", subject: str = "job", kind: str = "warning") -> Entry:
    return Entry(number, uid, NOW, kind, subject, text, None, 0, 0)


@given(text=st.text(), subject=st.text(), user=st.text(min_size=1), count=st.integers(1, 50))
def test_no_text_of_others_steers_a_terminal_or_a_mail(text: str, subject: str, user: str, count: int):
    entries = [entry(number, text=text, subject=subject) for number in range(count)]
    message = compose("0a" * 12, user, "host", entries)
    assert all(line.isprintable() and len(line) < 1000 for line in (*message.lines, message.headline, message.user))
    assert len(message.lines) <= 21
    shown = terminal.text_of(message)
    assert all(byte in b"\r\n\a" or byte >= 0x20 for byte in shown)
    assert shown.count(b"\a") == 1
    chosen = settings()
    known = compose("0a" * 12, "alice", "host", entries)
    raw = mail.Mail(chosen).letter(known).as_bytes(policy=policy.SMTP)
    read = message_from_bytes(raw, policy=policy.default)
    names = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"]
    assert sorted(set(read.keys()) - {"Content-Type", "Content-Transfer-Encoding", "MIME-Version"}) == sorted(names)
    assert read["To"] == "alice@example.org"
    blocks = teams.card(chosen, message)["attachments"][0]["content"]["body"]
    assert all(run["type"] == "TextRun" and run["text"].isprintable() for block in blocks for run in block["inlines"])


@given(begin=st.integers(0, 1439), length=st.integers(1, 1439), minute=st.integers(0, 10 * 1440))
def test_quiet_hours_are_as_long_as_they_say_also_over_midnight(begin: int, length: int, minute: int):
    end = (begin + length) % 1440
    hours = f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    assert rules.is_quiet(hours, minute * rules.MINUTE_MS) == ((minute - begin) % 1440 < length)
    assert not rules.is_quiet(None, minute * rules.MINUTE_MS)


@given(st.integers(1, 100), st.integers(-(10**12), 10**12))
def test_every_try_comes_and_none_at_once(tries: int, step: int):
    again = rules.again_at(NOW, tries)
    waits = entry(1)._replace(tries=tries, not_before=again)
    assert NOW + rules.MINUTE_MS <= again <= NOW + rules.HOUR_MS
    assert not rules.is_due(waits, NOW)
    assert rules.is_due(waits, again)
    # Whatever happens to the clock, it comes within an hour of that clock.
    assert any(rules.is_due(waits, NOW + step + pause) for pause in (0, rules.HOUR_MS))


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["warning", "notice", "stopped"])), max_size=20),
    st.dictionaries(st.integers(1, 3), st.integers(0, 20)),
    st.sampled_from(["terminal", "container", "email", "teams"]),
    st.booleans(),
)
def test_a_message_holds_all_that_waits_for_one_person(
    waits: list[tuple[int, str]], sent: dict[int, int], channel: str, quiet: bool
):
    entries = [entry(number, uid=uid, kind=kind) for number, (uid, kind) in enumerate(waits)]
    # NOW is 13:33 UTC.
    chosen = settings(quiet_hours="13:00-14:00" if quiet else None)
    found = rules.together(entries, channel, chosen, sent, NOW)
    for parts in found:
        (uid,) = {one.uid for one in parts}
        assert parts == [one for one in entries if one.uid == uid]
    got = {parts[0].uid for parts in found}
    for uid in {one.uid for one in entries} - got:
        held = quiet and channel in {"email", "teams"} and all(o.kind != "warning" for o in entries if o.uid == uid)
        assert sent.get(uid, 0) >= chosen["max_per_hour"] or held


@given(st.lists(st.tuples(st.floats(0, 1.2), st.integers(0, 3 * rules.HOUR_MS)), max_size=40))
def test_crossing_a_part_of_a_limit_is_told_and_told_again_only_later(moves: list[tuple[float, int]]):
    step, now, said = near.Step(0.0, {}), NOW, dict[float, int]()
    for share, pause in moves:
        now += pause
        before = step.part
        step, told = near.judge(Use("memory", share * 100, 100, ""), step, PARTS, now, REPEAT)
        reached = max((part for part in PARTS if share >= part), default=0.0)
        if told is not None:
            assert told == reached > before
            assert now - said.get(told, 0) >= REPEAT
            said[told] = now
        elif reached > before:
            assert now - said[reached] < REPEAT
        assert step.part >= reached


def test_what_goes_up_and_down_by_little_is_one_crossing():
    step, told = near.Step(0.0, {}), []
    for number, used in enumerate([50, 81, 79, 82, 76, 80, 74, 81, 100, 97, 100]):
        step, part = near.judge(Use("tasks", used, 100, ""), step, PARTS, NOW + number * REPEAT, REPEAT)
        told.append(part)
    assert told == [None, 0.8, None, None, None, None, None, 0.8, 1.0, None, None]
