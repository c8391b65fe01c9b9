"""What owners ask for: to keep an idle container, more time for one that runs, and why one was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from ds01 import events
from ds01.engine.api import Engine, NoSuchObjectError
from ds01.engine.owners import short
from ds01.ledger import Ledger, Transaction, View, lifecycle, objects
from ds01.ledger.lifecycle import Life
from ds01.lifecycle.rules import HOLD, IDLE, RUNTIME, Lawbook, span
from ds01.lifecycle.seen import Seen, observe, seen
from ds01.problems import ReportedError

Actor: TypeAlias = Mapping[str, Any]


class NotGrantedError(ReportedError):
    """The policy does not give that much; the text says how much there is, `rule` where the policy says so."""

    def __init__(self, text: str, rule: str) -> None:
        """Take both."""
        super().__init__(text)
        self.rule = rule


class NoSuchContainerError(ReportedError):
    """Nothing is known of a container of that name."""


class Granted(NamedTuple):
    """What somebody got: until when or by how much (ms), and what is left of the budget (None: no limit)."""

    container: str
    name: str
    value: int
    left: int | None


def keep(
    ledger: Ledger, tables: Mapping[str, Any], engine: Engine, name: str, length_ms: int, *, actor: Actor | None = None
) -> Granted:
    """Let an idle container not be stopped for a time. It costs the time by which it is kept longer than before.

    Args:
        ledger: To note it in.
        tables: The policy.
        engine: To find the container.
        name: Its engine name or id.
        length_ms: From now on.
        actor: Who asked, for the event.

    Raises:
        NotGrantedError: Its owner has used up the time that the policy gives.
        NoSuchContainerError: There is no such container.
        EngineUnavailableError: The engine does not answer.
        LedgerError: The ledger cannot be used.
    """
    one = _find(engine, name)
    with ledger.transaction() as tx:
        life = _life(tx, one)
        rules = Lawbook(tables, tx).rules(one.user, one.type)
        most, before = rules.keep_max, rules.kept_until(life.kept_until, tx.now)
        until = max(tx.now + length_ms, before)
        cost = until - max(tx.now, before)
        _afford(one.name, "policies.keepalive_max_duration", most, used=life.kept_ms, more=cost)
        lifecycle.keep(tx, one.id, until, cost)
    _record(one, f"kept for {span(length_ms)}", "policies.keepalive_max_duration", actor)
    return Granted(one.id, one.name, until, None if most is None else most - life.kept_ms - cost)


def extend(
    ledger: Ledger, tables: Mapping[str, Any], engine: Engine, name: str, length_ms: int, *, actor: Actor | None = None
) -> Granted:
    """Let a container run longer in all. Arguments and errors as of `keep`."""
    one = _find(engine, name)
    with ledger.transaction() as tx:
        life = _life(tx, one)
        most = Lawbook(tables, tx).rules(one.user, one.type).extend_max
        _afford(one.name, "policies.extend_max_duration", most, used=life.extended_ms, more=length_ms)
        lifecycle.extend(tx, one.id, length_ms)
    _record(one, f"may run {span(length_ms)} longer", "policies.extend_max_duration", actor)
    return Granted(one.id, one.name, length_ms, None if most is None else most - life.extended_ms - length_ms)


def why(view: View, tables: Mapping[str, Any], engine: Engine, name: str) -> dict[str, Any]:
    """Return how a container stands with the rules, or why it ended; durations in seconds, times in UTC ms.

    Raises:
        NoSuchContainerError: Nothing is known of it.
    """
    known = lifecycle.named(view, name)
    try:
        one = _find(engine, name)
    except NoSuchContainerError:
        if not known:
            raise
        return _told(known[0], running=False) | {"exists": False}
    life = lifecycle.life(view, one.id) or observe(None, one, view.moment, legacy=True)
    book = Lawbook(tables, view)
    rules = book.rules(one.user, one.type)
    exempt = {
        rule: reason
        for rule in (IDLE, RUNTIME, HOLD)
        if one.uid is not None and (reason := book.exempt(one.uid, one.user, rule, one.id))
    }
    return _told(life, running=one.running) | {
        "exists": True,
        "type": one.type,
        "owner": one.user or None,
        "limits": {
            IDLE: _seconds(rules.idle_timeout),
            RUNTIME: _seconds(None if rules.max_runtime is None else rules.max_runtime + life.extended_ms),
            HOLD: _seconds(rules.container_hold),
        },
        "limits_from": {IDLE: rules.idle_from, RUNTIME: rules.runtime_from},
        "exempt": exempt,
        "rehearse": rules.rehearse,
    }


def _told(life: Life, *, running: bool) -> dict[str, Any]:
    over = life.ended is not None and not running
    return {
        "container": life.container,
        "name": short(life.name),
        "running": running,
        "ran_s": life.ran_ms // 1000,
        "idle_s": life.idle_ms // 1000,
        "idle_why": life.idle_why or None,
        "kept_until": life.kept_until,
        "ended": {"at": life.ended, "rule": life.ended_rule, "reason": life.ended_reason} if over else None,
    }


def _find(engine: Engine, name: str) -> Seen:
    try:
        return seen(engine.get(f"/containers/{quote(name, safe='')}/json"))
    except NoSuchObjectError as error:
        raise NoSuchContainerError(
            f"container {name}: there is none of that name: `docker ps -a` lists yours"
        ) from error


def _life(tx: Transaction, one: Seen) -> Life:
    life = lifecycle.life(tx, one.id)
    if life is None:
        known = objects.find(tx, "container", one.id)
        life = observe(None, one, tx.moment, legacy=known is not None and known.legacy)
        lifecycle.observed(tx, life)
    return life


def _afford(name: str, rule: str, most: int | None, *, used: int, more: int) -> None:
    if most is not None and used + more > most:
        left = span(most - used) if most > used else "nothing"
        raise NotGrantedError(
            f"container {short(name)}: {span(more)} more is not granted: of {span(most)} ({rule}), {left} is left: "
            "ask an administrator for an exemption",
            rule,
        )


def _record(one: Seen, what: str, rule: str, actor: Actor | None) -> None:
    events.record(
        "lifecycle.keep",
        actor=actor,
        subject={"kind": "container", "name": one.name, "id": one.id[:12]},
        decision="allowed",
        rule=rule,
        reason=f"{short(one.name)} is {what}" if what.startswith("kept") else f"{short(one.name)} {what}",
        details={"uid": one.uid, "user": one.user},
    )


def _seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000
