"""Grammar of the names in a policy: groups, people, Unix groups.

Standard library only.
"""

from __future__ import annotations

import os
import re

from ds01.policy.problems import BadValue

GROUP = re.compile(r"[a-z][a-z0-9_]{0,30}")
# Slice names that mean something else already.
RESERVED_GROUPS = frozenset({"unmanaged", "system", "user"})
_USUAL_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+\\-]*\$?")
_IMPOSSIBLE_IN_USER = re.compile(r"[\s:/,;#\"'`<>|*?&()\[\]{}!=%~^]")
_YAML_WORDS = frozenset({"yes", "no", "on", "off", "true", "false", "null", "none"})
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
HOST_NAME = rf"{_LABEL}(\.{_LABEL})*"
# Nothing that could end an address or begin another: it goes into the envelope and the header of a mail.
ADDRESS = rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{HOST_NAME}"
# LOGIN_NAME_MAX of Linux, without the final zero byte.
_USER_MAX = 255
_UNIX_GROUP_MAX = 255


def check_group(name: str) -> str:
    """Return a valid group name. Raises BadValue with a proposed spelling."""
    if GROUP.fullmatch(name) and name not in RESERVED_GROUPS:
        return name
    raise BadValue(
        "a group name: a lower-case letter, then up to 30 of a-z, 0-9 and _, and not unmanaged, system or user",
        f"call it {propose_group(name)}",
    )


def propose_group(name: str) -> str:
    """Return the nearest valid spelling of a group name: "Student-PhD" -> "student_phd"."""
    spelling = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    spelling = re.sub(r"^[^a-z]+", "", spelling)[:31] or "group1"
    return f"{spelling[:27]}_lab" if spelling in RESERVED_GROUPS else spelling


def check_user(name: str) -> str:
    """Return a login name, local or from AD/LDAP. Raises BadValue."""
    expected = "a login name like alice, mary-ann or h.baker@example.org"
    if not name:
        raise BadValue(expected, "write the name or remove the entry")
    if len(os.fsencode(name)) > _USER_MAX:
        raise BadValue(f"{expected}, at most {_USER_MAX} bytes", "use the name that `id -un` prints")
    if name in {".", ".."} or name.startswith("-"):
        raise BadValue(expected, "a name does not start with - and is not . or ..")
    if not name.isprintable() or (found := _IMPOSSIBLE_IN_USER.search(name)):
        odd = repr(found[0]) if name.isprintable() and found else "control characters"
        raise BadValue(expected, f"remove {odd} from the name")
    return name


def unusual_user(name: str) -> str | None:
    """Return why a valid login name looks like a mistake, or None."""
    if not _USUAL_USER.fullmatch(name):
        return "a name of ASCII letters, digits and . _ - @ +"
    if name.lower() in _YAML_WORDS:
        return "a login name, not a word that YAML has a meaning for"
    if name.isdigit():
        return "a login name; digits alone read as a user id"
    return None


def check_unix_group(name: str) -> str:
    """Return the name of a Unix group, local or from AD/LDAP (these may hold spaces). Raises BadValue."""
    expected = "the name of a Unix group, as `getent group NAME` knows it"
    if not name or len(os.fsencode(name)) > _UNIX_GROUP_MAX or name != name.strip():
        raise BadValue(expected, "write the exact name, without blanks around it")
    if not name.isprintable() or name.startswith("-") or set(name) & set(":/,\n"):
        raise BadValue(expected, "a group name has no : / , and no control characters and does not start with -")
    return name
