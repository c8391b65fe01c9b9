"""The kinds of values in a policy that are text: names, dates, paths, modes."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ds01.policy import names
from ds01.policy.fields import Kind
from ds01.policy.problems import BadValue


class Text(Kind):
    """Free or patterned text on one or more lines."""

    def __init__(
        self, pattern: str | None = None, describe: str = "text", *, most: int = 1_000, **options: Any
    ) -> None:
        """Accept text matching the whole `pattern`, at most `most` characters."""
        super().__init__(**options)
        self.pattern, self.describe, self.most = pattern, describe, most

    def parse(self, value: Any) -> str:
        """Return the text without blanks around it."""
        if not isinstance(value, str):
            raise BadValue(self.describe, "put it in quotes")
        text = value.strip()
        if not text or len(text) > self.most:
            raise BadValue(f"{self.describe}, 1 to {self.most} characters", "write something shorter or remove it")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise BadValue(self.describe, "check the spelling")
        return text

    def json_schema(self) -> dict[str, Any]:
        """Return a string."""
        schema: dict[str, Any] = {"type": "string"}
        return schema | {"pattern": f"^(?:{self.pattern})$"} if self.pattern else schema


class Name(Kind):
    """A login, Unix group or policy group name; numeric logins need no quotes."""

    name = "name"
    _CHECKS = {  # noqa: RUF012 - constant
        "user": (names.check_user, "a login name"),
        "unix_group": (names.check_unix_group, "the name of a Unix group"),
        "group": (names.check_group, "the name of a group in this policy"),
    }

    def __init__(self, what: str, **options: Any) -> None:
        """Accept names of `what`: user, unix_group or group."""
        super().__init__(**options)
        self._check, self.describe = self._CHECKS[what]

    def parse(self, value: Any) -> str:
        """Return the name as text."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise BadValue(self.describe, "put the name in quotes")
        return self._check(value)

    def json_schema(self) -> dict[str, Any]:
        """Return a string or an integer."""
        return {"type": ["string", "integer"]}


class Day(Kind):
    """The last UTC day of something. A full timestamp of an older file means the day it falls on."""

    name = "date"
    describe = 'a UTC date like "2027-03-31"'

    def parse(self, value: Any) -> date:
        """Return the last day."""
        if not isinstance(value, str):
            raise BadValue(self.describe, "write year-month-day")
        try:
            if re.fullmatch(r"[0-9]{4}-[0-9][0-9]-[0-9][0-9]", value):
                return date.fromisoformat(value)
            moment = parse_instant(value)
            # Midnight begins a day: the last whole one is the day before.
            return (moment - timedelta(microseconds=1)).date() if moment.time() == time() else moment.date()
        except (ValueError, OverflowError) as error:
            raise BadValue(self.describe, "write year-month-day, an existing day") from error

    def dump(self, value: Any) -> str:
        """Return ISO 8601."""
        return str(value.isoformat())

    def json_schema(self) -> dict[str, Any]:
        """Return a date string."""
        return {"type": "string", "format": "date"}


class Instant(Kind):
    """A moment in UTC."""

    name = "instant"
    describe = 'a UTC time like "2027-03-31T08:00Z" or a date'

    def parse(self, value: Any) -> datetime:
        """Return an aware UTC datetime."""
        try:
            return parse_instant(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadValue(self.describe, "write year-month-dayThour:minuteZ") from error

    def dump(self, value: Any) -> str:
        """Return ISO 8601 with Z."""
        return str(value.isoformat().replace("+00:00", "Z"))

    def json_schema(self) -> dict[str, Any]:
        """Return a string."""
        return {"type": "string"}


def parse_instant(text: str) -> datetime:
    """Return ISO 8601 text as a UTC datetime; without a zone it is UTC.

    Raises TypeError, ValueError, and OverflowError for a moment that is not in the years 1 to 9999 of UTC.
    """
    if not re.match(r"[0-9]{4}-[0-9][0-9]-[0-9][0-9]([T ]|$)", text):
        raise ValueError(text)  # Weeks and days without dashes are ISO 8601 too, and mistakes here.
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


class HostPath(Text):
    """An absolute path on the host."""

    name = "path"

    def __init__(self, **options: Any) -> None:
        """Accept clean absolute paths."""
        super().__init__(r"/|(/[A-Za-z0-9_.@+-]+)+", "an absolute path, like /scratch", most=4_000, **options)

    def parse(self, value: Any) -> str:
        """Return the path without a final slash."""
        path = super().parse(value.rstrip("/") or "/" if isinstance(value, str) else value)
        if {".", ".."} & set(path.split("/")):
            raise BadValue(self.describe, "write the path without . and ..")
        return path


class Mode(Kind):
    """A file mode, in quotes so that YAML keeps its digits."""

    name = "mode"
    describe = 'a file mode in quotes, like "0750" or "2770"'

    def parse(self, value: Any) -> int:
        """Return the mode as a number."""
        if not isinstance(value, str) or not re.fullmatch(r"[0-7]{3,4}", value):
            raise BadValue(self.describe, "write four octal digits in quotes")
        return int(value, 8)

    def dump(self, value: Any) -> str:
        """Return "2770"."""
        return f"{value:04o}"

    def json_schema(self) -> dict[str, Any]:
        """Return four octal digits."""
        return {"type": "string", "pattern": "^[0-7]{3,4}$"}
