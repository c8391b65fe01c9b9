"""How people and administrators are told. What is secret is in files of root that are named here."""

from __future__ import annotations

from string import Template
from typing import Annotated

from pydantic import Field

from ds01.policy.fields import Choice, Duration, Number, Whole
from ds01.policy.models.base import Section
from ds01.policy.models.limits import HOUR, MINUTE
from ds01.policy.names import ADDRESS, HOST_NAME
from ds01.policy.problems import BadValue
from ds01.policy.text_fields import HostPath, Text

_HOUR_OF_DAY = "([01][0-9]|2[0-3]):[0-5][0-9]"
_ADDRESS_TEXT = "an e-mail address like lab@example.org"
_CHANNEL = ("terminal", "container", "email", "teams")


class Words(Text):
    """One line with places to fill."""

    places = ("user", "host", "headline", "count")

    def __init__(self) -> None:
        """Accept what can be filled."""
        names = ", ".join(f"${name}" for name in self.places)
        super().__init__(r"[^\r\n]*", f"one line of text, which may hold {names}", most=400)

    def parse(self, value: object) -> str:
        """Return the line."""
        text = super().parse(value)
        try:
            Template(text).substitute(dict.fromkeys(self.places, ""))
        except (KeyError, ValueError) as error:
            raise BadValue(self.describe, f"{error} cannot be filled; write $$ for a dollar sign") from error
        return text


class Email(Section):
    """E-mail through a mail server."""

    server: Annotated[str | None, Text(HOST_NAME, "a host name or IPv4 address", nullable=True, null_means="none")] = (
        None
    )
    """Mail server."""
    port: Annotated[int, Whole(1, 65_535)] = 587
    """Port of the mail server; with security tls mostly 465."""
    security: Annotated[str, Choice("starttls", "tls", "none")] = "starttls"
    """TLS after a greeting in the clear, TLS from the beginning, or none: only for a mail server on this host."""
    sender: Annotated[str | None, Text(ADDRESS, _ADDRESS_TEXT, nullable=True, null_means="none")] = None
    """Address the messages come from."""
    user: Annotated[str | None, Text(r"\S+", "a login name", nullable=True, null_means="no login")] = None
    """Login at the mail server."""
    password_file: Annotated[str | None, HostPath(nullable=True, null_means="none")] = None
    """File with the password for it; root's, mode 0600."""
    domain: Annotated[str | None, Text(HOST_NAME, "a domain like example.org", nullable=True, null_means="none")] = None
    """People whose address is not listed get their messages at login@domain; a login with an @ is an address."""
    addresses: dict[str, Annotated[str, Text(ADDRESS, _ADDRESS_TEXT)]] = Field(default_factory=dict)
    """Addresses of single people, by login name."""
    admins: tuple[Annotated[str, Text(ADDRESS, _ADDRESS_TEXT)], ...] = ()
    """Addresses of the administrators."""


class Teams(Section):
    """A channel of Microsoft Teams, by a workflow that posts what a webhook receives."""

    webhook_file: Annotated[str | None, HostPath(nullable=True, null_means="no Teams")] = None
    """File with the address of the webhook; root's, mode 0600: whoever knows it can post."""


class Templates(Section):
    """The words around messages by e-mail and Teams. $user, $host, $headline and $count are filled in."""

    subject: Annotated[str, Words()] = "DS01 on $host: $headline"
    """Subject."""
    opening: Annotated[str, Words()] = "Hello $user,"
    """First line of an e-mail."""
    closing: Annotated[str, Words()] = "On $host, ds01 notices shows this again and ds01 why CONTAINER says more."
    """Last line."""


class Notifications(Section):
    """How people are told. Secrets (webhook, password) are in files that only root can read."""

    channels: tuple[Annotated[str, Choice(*_CHANNEL)], ...] = ("terminal", "container")
    """Ways to reach a person, besides `ds01 notices` and the next login. Everybody in the channel reads Teams."""
    admin_channels: tuple[Annotated[str, Choice("terminal", "email", "teams")], ...] = ("terminal",)
    """Ways to reach the administrators."""
    quota_alert_at: tuple[Annotated[float, Number(0, 1)], ...] = (0.8, 1.0)
    """Parts of a quota at which its owner is told."""
    repeat_after: Annotated[int, Duration(least=MINUTE)] = 4 * HOUR
    """The same message is not repeated earlier."""
    max_per_hour: Annotated[int, Whole(1, 3_600)] = 12
    """Messages to one person by one way; what comes then waits, and comes together."""
    quiet_hours: Annotated[
        str | None,
        Text(f"{_HOUR_OF_DAY}-{_HOUR_OF_DAY}", 'UTC hours like "21:00-05:00"', nullable=True, null_means="none"),
    ] = None
    """Hours, UTC, in which e-mail and Teams wait; warnings of something that is about to end do not."""
    email: Email = Email()
    """E-mail."""
    teams: Teams = Teams()
    """Microsoft Teams."""
    templates: Templates = Templates()
    """Words."""
