"""One pass: take in what there is to say, then send what is due, each way by itself.

What is sent is in the ledger before it is tried and after it arrived, so a pass that dies loses nothing. Only a message
whose arrival could not be noted any more is sent again; mail programs know it by its number.
"""

from __future__ import annotations

import os
import pwd
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Protocol

from ds01 import events
from ds01.engine.api import Engine
from ds01.ledger import JOB_DEADLINE_S, LEDGER, Clock, Ledger, LedgerError, Transaction, messages, objects, system_clock
from ds01.ledger.lifecycle import Notice
from ds01.ledger.messages import Entry
from ds01.lifecycle.acts import Outcome
from ds01.locks import exclusive
from ds01.monitor import history
from ds01.monitor.strangers import strangers
from ds01.notify import alerts, inside, near, rules, terminal
from ds01.notify.message import Message, UndeliverableError, UnreachableError, compose
from ds01.policy import DEFAULT_PATH
from ds01.policy.cache import load_tables
from ds01.policy.nss import is_admin
from ds01.problems import ApplyError, ReportedError

_BEGIN_S: Final = 15.0
"""For so long new messages are begun; the rest waits for the next pass, so that a slow server delays no other way."""
_END_S: Final = 45.0
"""After this a pass ends, whatever a server is still up to. Both are within the time between two warnings."""
_NOTE_S: Final = 60.0
"""For so long it is tried to note that a message arrived."""


@dataclass(frozen=True)
class Place:
    """Where everything is; tests have their own."""

    ledger: Path = LEDGER
    policy: Path = Path(DEFAULT_PATH)
    engine: Path | None = None
    lock: Path = Path("/run/ds01/notices.lock")
    terminals: str = terminal.DEVICES
    latest: Path = history.LATEST
    tables: Callable[[Path], dict[str, Any]] = field(default=load_tables)
    clock: Clock = system_clock
    begin_s: float = _BEGIN_S
    end_s: float = _END_S


class Way(Protocol):
    """A channel: `send` returns if a message arrived, and raises UndeliverableError or UnreachableError if not."""

    def send(self, message: Message) -> None:
        """Send one message."""

    def close(self) -> None:
        """Nothing more will be sent."""


def run(place: Place | None = None, *, dry_run: bool = False) -> Outcome:
    """Tell people what they are to be told. Safe to run at any time, and twice.

    Raises:
        LedgerError: The ledger cannot be used; nothing was sent.
        PolicyError: The policy cannot be used, likewise.
    """
    where = place or Place()
    try:
        with exclusive(where.lock, 0, "it goes on by itself"):
            return _Pass(where).run(dry_run=dry_run)
    except ApplyError:
        return Outcome(["another pass is under way"])


class _Pass:
    def __init__(self, place: Place) -> None:
        self._place = place
        self._tables = place.tables(place.policy)
        self._settings: Mapping[str, Any] = self._tables["notifications"]
        self._outcome = Outcome()
        self._said = threading.Lock()

    def run(self, *, dry_run: bool) -> Outcome:
        with Ledger(self._place.ledger, clock=self._place.clock, deadline_s=JOB_DEADLINE_S) as ledger:
            with ledger.read() as view:
                seen = near.look(view, self._tables)
            unowned = strangers(history.read_latest(self._place.latest))
            with ledger.transaction(keep=not dry_run) as tx:
                alerts.take(tx, self._settings)
                alerts.strangers(tx, unowned)
                facts = near.take(tx, self._settings, seen)
                messages.spool(tx, self._ways_of)
                due = {channel: found for channel in rules.CHANNELS if (found := self._due(tx, channel))}
            if dry_run:
                planned = [(channel, entries) for channel, each in due.items() for entries in each]
                return Outcome([f"{channel}: would tell {_name(e[0].uid)} {len(e)} notices" for channel, e in planned])
        for fact in facts:
            events.record(**fact)
        until = time.monotonic() + self._place.end_s
        threads = [
            threading.Thread(target=self._send, args=(channel, due[channel]), name=channel, daemon=True)
            for channel in due
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                self._problem(f"{thread.name}: not done in time: the rest follows")
        return self._outcome

    def _ways_of(self, notice: Notice) -> list[str]:
        return list(self._settings["channels" if notice.uid else "admin_channels"])

    def _due(self, tx: Transaction, channel: str) -> list[list[Entry]]:
        """Return what is tried now, one list for each message; those that are new get their number."""
        dropped = messages.give_up(tx, channel, tx.now - rules.LASTS_MS)
        if dropped:
            self._outcome.lines.append(f"{channel}: gave up {dropped} notices of yesterday")
        entries = messages.waiting(tx, channel)
        fresh = [entry for entry in entries if entry.message is None]
        sent = messages.sent_since(tx, channel, tx.now - rules.HOUR_MS) if fresh else {}
        due = []
        for parts in rules.together(fresh, channel, self._settings, sent, tx.now):
            number = os.urandom(12).hex()
            messages.put_together(tx, channel, [entry.notice for entry in parts], number)
            due.append([entry._replace(message=number) for entry in parts])
        again = [entry for entry in entries if entry.message is not None and rules.is_due(entry, tx.now)]
        again.sort(key=attrgetter("message", "notice"))
        return due + [list(parts) for _, parts in groupby(again, key=attrgetter("message"))]

    def _send(self, channel: str, due: list[list[Entry]]) -> None:
        """Send by one way; in a thread of its own, since another may be slow."""
        try:
            way = self._open(channel)
        except ReportedError as error:
            self._problem(f"{channel}: {error}")
            return
        deadline = time.monotonic() + self._place.begin_s
        try:
            # No longer than usual for it: what begins late is cut off before it is noted, and sent again.
            with Ledger(self._place.ledger, clock=self._place.clock) as ledger:
                for entries in due:
                    if time.monotonic() > deadline or not self._try(ledger, channel, way, entries):
                        break
        except LedgerError as error:
            self._problem(f"{channel}: {error}")
        finally:
            way.close()

    def _try(self, ledger: Ledger, channel: str, way: Way, entries: list[Entry]) -> bool:
        """Try one message. Returns whether another one makes sense."""
        number = str(entries[0].message)
        with ledger.transaction() as tx:
            messages.begin(tx, channel, number, rules.again_at(tx.now, entries[0].tries + 1))
        message = compose(number, _name(entries[0].uid), os.uname().nodename, entries)
        try:
            way.send(message)
        except UnreachableError as error:
            with ledger.transaction() as tx:
                messages.put_off(tx, channel, number, str(error))
                new = alerts.failing(tx, channel, str(error))
            if new:
                alerts.record_failure(channel, str(error))
            self._problem(f"{channel}: {error}")
            return False
        except UndeliverableError as error:
            with ledger.transaction() as tx:
                messages.end(tx, channel, number, "dropped", str(error))
            self._line(f"{channel}: {message.user} was not told: {error}")
            return True
        with ledger.transaction(deadline_s=_NOTE_S) as tx:
            messages.end(tx, channel, number, "sent", None)
            alerts.failing(tx, channel, None)
        self._line(f"{channel}: told {message.user}: {message.headline}")
        return True

    def _open(self, channel: str) -> Way:
        if channel == "email":
            from ds01.notify.mail import Mail  # noqa: PLC0415 - most passes send none

            return Mail(self._settings)
        if channel == "teams":
            from ds01.notify import teams  # noqa: PLC0415 - as above

            return _Plain(lambda message: teams.send(self._settings, message))
        return _Plain(self._to_terminals if channel == "terminal" else self._to_containers)

    def _to_terminals(self, message: Message) -> None:
        admins = cache(lambda uid: is_admin(self._tables, uid, _name(uid)))
        is_meant = admins if message.uid == 0 else message.uid.__eq__
        if not terminal.write(message, is_meant, self._place.terminals):
            raise UndeliverableError("no terminal takes messages")

    def _to_containers(self, message: Message) -> None:
        with Ledger(self._place.ledger, clock=self._place.clock) as ledger, ledger.read() as view:
            theirs = [row.engine_id for row in objects.listing(view, "container", message.uid)]
        if not inside.write(Engine(self._place.engine), theirs, message):
            raise UndeliverableError("no terminal is open in a container")

    def _line(self, text: str) -> None:
        with self._said:
            self._outcome.lines.append(text)

    def _problem(self, text: str) -> None:
        with self._said:
            self._outcome.problems.append(text)


@dataclass(frozen=True)
class _Plain:
    """A way that keeps nothing open."""

    send: Callable[[Message], None]

    def close(self) -> None:
        """There is nothing to close."""


def _name(uid: int) -> str:
    if uid == 0:
        return "the administrators"
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)
