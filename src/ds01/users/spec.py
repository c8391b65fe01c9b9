"""Read the list of people, as it comes out of the policy, into `Person`s, with every fault named."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..problems import Problem, shown
from .model import Person
from .uids import UID_END, UID_MIN_ALLOWED, UID_RESERVED

LOCAL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
"""Names of accounts made here: 32 characters fit into utmp, the set is what useradd, ssh and systemd accept."""
DIRECTORY_MARKS: Final = frozenset("@\\")
"""A name holding one of these belongs to a directory (`name@domain`, `DOMAIN\\name`)."""
DIRECTORY_NAME: Final = re.compile(r"[^\s:,/\x00-\x1f\x7f~+-][^\s:,/\x00-\x1f\x7f]{0,254}")
RESERVED_NAMES: Final = frozenset({"root", "nobody", "nogroup", "all", "admin", "ubuntu", "debian", "docker", "users"})
RESERVED_PREFIXES: Final = ("systemd-", "ds01-", "_")
"""Prefixes of system accounts: systemd's, ours, and the one Debian reserves for packages."""
ROOT_EQUIVALENT_GROUPS: Final = frozenset({"root", "docker", "disk", "shadow", "kmem", "lxd", "incus-admin"})
"""Membership in one of these is root without any log; the docker group would also bypass every limit."""

_KEY_TYPES: Final = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com)"
)
_KEY_MAX: Final = 16384
_FIELDS: Final = frozenset(
    {"name", "comment", "groups", "ssh_keys", "expires", "shell", "uid", "quota", "create"},
)


def parse_people(raw: object) -> tuple[list[Person], list[Problem]]:
    """Turn plain data into people.

    Args:
        raw: A list of mappings with the keys name, comment, groups, ssh_keys, expires, shell, uid, quota, create.

    Returns:
        The people that are right, and all problems of the others.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        return [], [Problem("people", shown(raw), "a list of people", "give one mapping for each person")]
    people: list[Person] = []
    problems: list[Problem] = []
    for index, item in enumerate(raw):
        person, faults = _person(item, index)
        problems += faults
        if person is not None and not faults:
            people.append(person)
    problems += _duplicates(people)
    return people, problems


def is_directory_name(name: str) -> bool:
    """Say whether the name can only belong to a directory, never to an account of this host."""
    return not DIRECTORY_MARKS.isdisjoint(name)


def key_fault(line: str) -> str | None:
    """Return what is wrong with one line of an authorized_keys file, or None."""
    if len(line) > _KEY_MAX or not line.isprintable():
        return "one printable line"
    rest = line.strip()
    if not _KEY_TYPES.match(rest):
        rest = _after_options(rest)
    parts = rest.split(None, 2)
    if len(parts) < 2 or not _KEY_TYPES.fullmatch(parts[0]):  # noqa: PLR2004 - type and key
        return "[options] type base64 [comment], with a type that ssh accepts"
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        return "a complete base64 key"
    kind = parts[0].encode()
    if blob[:4] != len(kind).to_bytes(4, "big") or blob[4 : 4 + len(kind)] != kind or len(blob) < len(kind) + 36:
        return "a complete key of the type it names"
    return None


def key_blob(line: str) -> str:
    """Return the base64 part of a valid key line, which is what makes it the same key."""
    rest = line.strip()
    if not _KEY_TYPES.match(rest):
        rest = _after_options(rest)
    return rest.split(None, 2)[1]


def _after_options(line: str) -> str:
    quoted = False
    escaped = False
    for position, char in enumerate(line):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char in " \t" and not quoted:
            return line[position:].lstrip()
    return ""


def _person(item: object, index: int) -> tuple[Person | None, list[Problem]]:
    path = f"people[{index}]"
    if not isinstance(item, Mapping):
        return None, [Problem(path, shown(item), "a mapping", "write name: and the other keys")]
    name = item.get("name")
    create = item.get("create", True) is not False
    faults = _name_faults(name, path, create=create)
    where = f"people.{name}" if not faults else path
    unknown = sorted(str(key) for key in item if key not in _FIELDS)
    faults += [Problem(f"{where}.{key}", shown(item.get(key)), "a known key", "remove it") for key in unknown]
    comment = _text(item, "comment", where, faults)
    shell = _text(item, "shell", where, faults)
    if shell is not None and not shell.startswith("/"):
        faults.append(Problem(f"{where}.shell", shell, "an absolute path", "write /bin/bash"))
    quota = item.get("quota") or {}
    if not isinstance(quota, Mapping):
        faults.append(
            Problem(f"{where}.quota", shown(quota), "home and scratch in bytes", "write {home: N, scratch: N}")
        )
        quota = {}
    person = Person(
        name=str(name),
        comment=comment,
        groups=_groups(item.get("groups"), where, faults),
        keys=_keys(item.get("ssh_keys"), where, faults),
        expires=_date(item.get("expires"), where, faults),
        shell=shell,
        uid=_uid(item.get("uid"), where, faults),
        quota_home=_bytes(quota.get("home"), f"{where}.quota.home", faults),
        quota_scratch=_bytes(quota.get("scratch"), f"{where}.quota.scratch", faults),
        create=create,
    )
    return person, faults


def _name_faults(name: object, path: str, *, create: bool) -> list[Problem]:
    if not isinstance(name, str) or not name:
        return [Problem(f"{path}.name", shown(name), "a login name", "give the login as text")]
    # What is only looked up may be called whatever a directory calls it.
    if is_directory_name(name) or not create:
        if DIRECTORY_NAME.fullmatch(name) and name not in {".", ".."}:
            return []
        return [Problem(f"{path}.name", name, "a name without spaces, ':', ',' or '/'", "correct the name")]
    if not LOCAL_NAME.fullmatch(name) or name.endswith("."):
        expected = "at most 32 letters, digits, '_', '-', '.', starting with a letter and not ending with '.'"
        return [Problem(f"{path}.name", name, expected, "choose another login")]
    if name.lower() in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
        return [Problem(f"{path}.name", name, "a person's name, not one that systems use", "choose another login")]
    return []


def _duplicates(people: Sequence[Person]) -> list[Problem]:
    problems: list[Problem] = []
    names: dict[str, str] = {}
    uids: dict[int, str] = {}
    for person in people:
        key = person.name.lower()
        if key in names:
            fix = (
                "list each person once; names that differ only in capitals cannot be told apart in mail and file shares"
            )
            problems.append(Problem(f"people.{person.name}.name", person.name, f"a name unlike {names[key]}", fix))
        names[key] = person.name
        if person.uid is None:
            continue
        if person.uid in uids:
            expected = f"a uid that {uids[person.uid]} does not have"
            fix = "give each person a uid of their own, or none"
            problems.append(Problem(f"people.{person.name}.uid", str(person.uid), expected, fix))
        uids[person.uid] = person.name
    return problems


def _text(item: Mapping[Any, Any], key: str, where: str, faults: list[Problem]) -> str | None:
    value = item.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or ":" in value or not value.isprintable():
        faults.append(Problem(f"{where}.{key}", shown(value), "one line of text without ':'", "correct it"))
        return None
    return value


def _groups(value: object, where: str, faults: list[Problem]) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        faults.append(Problem(f"{where}.groups", shown(value), "a list of Unix groups", "write [ds01-users]"))
        return ()
    for group in value:
        if group in ROOT_EQUIVALENT_GROUPS:
            fix = "remove it; administrators get ds01-admin"
            faults.append(Problem(f"{where}.groups", group, "a group that does not give root", fix))
    return tuple(dict.fromkeys(value))


def _keys(value: object, where: str, faults: list[Problem]) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        faults.append(Problem(f"{where}.ssh_keys", shown(value), "a list of public keys", "one text for each key"))
        return ()
    keys = [line.strip() for line in value if line.strip()]
    for number, line in enumerate(keys):
        fault = key_fault(line)
        if fault is not None:
            fix = "paste the whole line of the .pub file"
            faults.append(Problem(f"{where}.ssh_keys[{number}]", shown(line), fault, fix))
    return tuple(dict.fromkeys(keys))


def _date(value: object, where: str, faults: list[Problem]) -> dt.date | None:
    if value is None or value == "":
        return None
    try:
        return dt.date.fromisoformat(value) if isinstance(value, str) else _not_a_date(value)
    except (ValueError, TypeError):
        faults.append(Problem(f"{where}.expires", shown(value), "a UTC date as YYYY-MM-DD", "write 2027-03-31"))
        return None


def _not_a_date(value: object) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    raise TypeError


def _uid(value: object, where: str, faults: list[Problem]) -> int | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not UID_MIN_ALLOWED <= value < UID_END
        or value in UID_RESERVED
    ):
        expected = f"a number from {UID_MIN_ALLOWED} to {UID_END - 1}, not 65534 or 65535"
        faults.append(Problem(f"{where}.uid", shown(value), expected, "choose another or leave it out"))
        return None
    return value


def _bytes(value: object, where: str, faults: list[Problem]) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        faults.append(Problem(where, shown(value), "a number of bytes above 0, or null", "correct it"))
        return None
    return value
