"""The audit trail: one JSON object a line in a file only root writes, and the same in the journal.

Standard library only: this module also travels to hosts inside Ansible modules.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import json
import math
import os
import pwd
import socket
import sys
import time
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

EventType: TypeAlias = Literal[
    "container.create",
    "container.start",
    "container.stop",
    "container.remove",
    "container.adopt",
    "gpu.lease",
    "gpu.release",
    "gpu.queue",
    "gpu.reserve",
    "gpu.foreign",
    "gateway.refuse",
    "gateway.soften",
    "gateway.admin",
    "lifecycle.warn",
    "lifecycle.stop",
    "lifecycle.keep",
    "limit.near",
    "limit.hit",
    "policy.load",
    "policy.reject",
    "policy.expire",
    "user.add",
    "user.change",
    "user.archive",
    "user.remove",
    "mig.plan",
    "mig.apply",
    "health.ok",
    "health.fail",
    "grant.add",
    "grant.expire",
]
"""The catalogue: every kind of fact that is recorded, noun.verb. One fact is one event."""

Decision: TypeAlias = Literal["allowed", "refused", "changed", "warned", "stopped", "failed"]

EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)

SCHEMA: Final = 1
LINE_MAX: Final = 4000
"""Bytes of one line, its newline included: below PIPE_BUF, so every reader and shipper gets it whole."""
CUT: Final = "...[cut]"
"""Ends every value that was shortened; such an event also has `"cut": true`."""

EVENTS_FILE = Path("/var/log/ds01/events.jsonl")
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
ADMIN_GROUP: Final = "ds01-admin"

_JOURNAL_TIMEOUT_S: Final = 0.2
_LOCK_TIMEOUT_S: Final = 0.2
_PRIORITY: Final[dict[str, int]] = {"refused": 4, "warned": 4, "stopped": 5, "changed": 5, "failed": 3}
_PRIORITY_INFO: Final = 6
_DEPTH_MAX: Final = 6
_VALUES_MAX: Final = LINE_MAX // 2
"""More values than this cannot be in one line, so they are not looked at either."""
_KEY_MAX: Final = 64
_INT_BITS_MAX: Final = 64


def record(
    type: EventType,  # noqa: A002 - the name of the field
    *,
    actor: Mapping[str, Any] | None = None,
    subject: Mapping[str, Any] | None = None,
    decision: Decision,
    rule: str | None = None,
    reason: str | None = None,
    fix: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> str:
    """Write one event. Never raises and never blocks for long: what is audited must not fail because of its audit.

    Args:
        type: One of `EVENT_TYPES`.
        actor: Who did it: uid, user, via. Default: the user of this process.
        subject: What it was done to: kind, name, id, gpu.
        decision: One of `Decision`.
        rule: The policy key or check that decided.
        reason: One sentence for people.
        fix: What the person can do about it.
        details: Anything else that can be JSON.

    Returns:
        The id of the event.
    """
    event_id = os.urandom(8).hex()
    try:
        event = {
            "ts": timestamp(time.time()),
            "schema": SCHEMA,
            "id": event_id,
            "type": type,
            "actor": dict(actor) if actor is not None else this_process(),
            "subject": subject,
            "decision": decision,
            "rule": rule,
            "reason": reason,
            "fix": fix,
            "details": details,
        }
        line = encode(event)
    except Exception as error:  # noqa: BLE001 - see the docstring
        failure = f"event could not be encoded: {error.__class__.__name__}"
        known = {
            "ts": timestamp(time.time()),
            "schema": SCHEMA,
            "id": event_id,
            "type": f"{type}",
            "decision": f"{decision}",
        }
        line = encode(known | dict.fromkeys(("actor", "subject", "rule", "fix", "details")) | {"reason": failure})
    # Both, always: a full disk loses the line in the file, a stopped journald the one in the journal.
    with contextlib.suppress(Exception):
        _to_file(line)
    with contextlib.suppress(Exception):
        _to_journal(line)
    return event_id


def encode(event: Mapping[str, Any]) -> bytes:
    """Return the event as one line of ASCII JSON of at most `LINE_MAX` bytes, newline included.

    Everything outside printable ASCII is escaped, so no value can start a line of its own or steer a terminal.
    """
    for limit in (LINE_MAX, 1000, 300, 100, 30):
        cleaner = _Cleaner(limit)
        cleaned = cleaner.event(event)
        line = _dump(cleaned | {"cut": True} if cleaner.cut else cleaned)
        if len(line) <= LINE_MAX:
            return line
    # Only something deep or wide is still too long: what is left are the fields that say what happened.
    flat = {key: CUT if isinstance(value, dict | list) else value for key, value in cleaned.items()}
    return _dump(flat | {"cut": True})


def _dump(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


class _Cleaner:
    """Turns any value into plain JSON with no string or collection longer than a limit, in bounded time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.cut = False
        self._values_left = _VALUES_MAX

    def event(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        # The fields that identify an event keep their text at any limit.
        return {
            key: f"{value}"[:_KEY_MAX] if key in {"ts", "id", "type", "decision"} else self._any(value, 1)
            for key, value in fields.items()
        }

    def _any(self, value: Any, depth: int) -> Any:
        self._values_left -= 1
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if depth >= _DEPTH_MAX or self._values_left < 0:
                self.cut = True
                return CUT
            return self._collection(value, depth)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) and value.bit_length() <= _INT_BITS_MAX:
            return int(value)
        if isinstance(value, int):
            self.cut = True
            return CUT
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        return self._text(value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value))

    def _collection(self, value: Collection[Any], depth: int) -> Any:
        self.cut = self.cut or len(value) > self.limit
        if isinstance(value, Mapping):
            return {str(key)[:_KEY_MAX]: self._any(item, depth + 1) for key, item in islice(value.items(), self.limit)}
        items = [self._any(item, depth + 1) for item in islice(value, self.limit)]
        return items + [CUT] * (len(value) > self.limit)

    def _text(self, text: str) -> str:
        if len(text) <= self.limit:
            return text
        self.cut = True
        return text[: self.limit] + CUT


def timestamp(moment: float) -> str:
    """Return a moment, in seconds since 1970, as the log writes it."""
    seconds, milliseconds = divmod(int(moment * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z"


def this_process(via: str | None = None) -> dict[str, Any]:
    """Return the actor of an event that this process causes itself; `via` is the program's name unless given."""
    uid = os.getuid()
    try:
        user: str | None = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = None
    return {"uid": uid, "user": user, "via": via or Path(sys.argv[0]).name or "python"}


def _to_file(line: bytes) -> None:
    descriptor = _open_log()
    try:
        _wait_for_turn(descriptor)
        size = os.fstat(descriptor).st_size
        # A disk that filled up in the middle of a line must not swallow the next one.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" + line if torn else line)
    finally:
        os.close(descriptor)


def _wait_for_turn(descriptor: int) -> None:
    """Hold the log while its last byte is looked at; a writer that was stopped in there delays others only a moment."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.001)
        else:
            return


def _open_log() -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(3):
        try:
            descriptor = os.open(EVENTS_FILE, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                EVENTS_FILE.parent.mkdir(mode=0o755)
                EVENTS_FILE.parent.chmod(0o755)
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(EVENTS_FILE, flags | os.O_CREAT | os.O_EXCL, 0o600)
                os.fchmod(descriptor, 0o640)
                os.close(descriptor)
            continue
        # The first events of a host are older than the group.
        if os.fstat(descriptor).st_gid == 0:
            with contextlib.suppress(KeyError, PermissionError):
                os.fchown(descriptor, -1, grp.getgrnam(ADMIN_GROUP).gr_gid)
        return descriptor
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(EVENTS_FILE))


def _to_journal(line: bytes) -> None:
    event = json.loads(line)
    actor = event["actor"] if isinstance(event["actor"], dict) else {}
    subject = event["subject"] if isinstance(event["subject"], dict) else {}
    parts = (event["type"], event["decision"], subject.get("kind"), subject.get("name"), event["reason"])
    fields = {
        "MESSAGE": " ".join(str(part) for part in parts if part is not None),
        "PRIORITY": _PRIORITY.get(event["decision"], _PRIORITY_INFO),
        "SYSLOG_IDENTIFIER": "ds01",
        "DS01_EVENT": line.decode("ascii").rstrip("\n"),
        "DS01_ID": event["id"],
        "DS01_TYPE": event["type"],
        "DS01_DECISION": event["decision"],
        "DS01_USER": actor.get("user"),
    }
    payload = b"".join(_journal_field(name, str(value)) for name, value in fields.items() if value is not None)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(_JOURNAL_TIMEOUT_S)
        channel.sendto(payload, str(JOURNAL_SOCKET))


def _journal_field(name: str, value: str) -> bytes:
    # The text form of a field ends at a newline: the length-prefixed one would carry it, printable text needs neither.
    printable = value if value.isprintable() else "".join(char if char.isprintable() else "?" for char in value)
    return f"{name}={printable}\n".encode("utf-8", "replace")
