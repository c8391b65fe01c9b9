"""E-mail by SMTP: one connection for all that goes out at once, encrypted and checked unless the policy differs."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from re import fullmatch
from typing import Any, Final

from ds01.notify import secret
from ds01.notify.message import Message, UndeliverableError, UnreachableError, words
from ds01.policy.names import ADDRESS

TIMEOUT_S: Final = 10.0
"""For each answer of the mail server. One that takes longer is asked again at the next try."""
_TEMPORARY: Final = range(400, 500)


class Mail:
    """The way to a mail server; for the messages of one pass."""

    def __init__(self, settings: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> None:
        """Take `notifications` of the policy. Nothing is opened before the first message."""
        self._settings = settings
        self._mail: Mapping[str, Any] = settings["email"]
        self._timeout_s = timeout_s
        self._server: smtplib.SMTP | None = None

    def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            UndeliverableError: There is no address, or the server refused this message for good.
            UnreachableError: The server does not answer, or not as it should; or says "later".
        """
        letter = self.letter(message)
        server = self._server or self._connect()
        try:
            server.send_message(letter)
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            self._refused(codes[0] if codes else 0, "the recipient")
        except smtplib.SMTPSenderRefused as error:
            raise UnreachableError(f"{self._name}: it does not take mail from {error.sender}") from None
        except smtplib.SMTPDataError as error:
            self._refused(error.smtp_code, "the message")
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise UnreachableError(f"{self._name}: {_said(error)}") from None

    def letter(self, message: Message) -> EmailMessage:
        """Return the mail. Raises UndeliverableError where nobody's address is known."""
        letter = EmailMessage()
        letter["From"] = self._mail["sender"]
        letter["To"] = ", ".join(self._to(message))
        letter["Subject"] = words(self._settings, "subject", message)
        letter["Date"] = format_datetime(localtime())
        # Always the same for a message: who gets it twice since an answer was lost, sees it once.
        letter["Message-ID"] = f"<{message.id}@{str(self._mail['sender']).partition('@')[2]}>"
        letter["Auto-Submitted"] = "auto-generated"
        parts = (words(self._settings, "opening", message), "\n".join(message.lines))
        letter.set_content("\n\n".join((*parts, words(self._settings, "closing", message))) + "\n")
        return letter

    def close(self) -> None:
        """End the connection."""
        if self._server is not None:
            with suppress(smtplib.SMTPException, OSError):
                self._server.quit()
            self._server = None

    @property
    def _name(self) -> str:
        return f"mail server {self._mail['server']}:{self._mail['port']}"

    def _to(self, message: Message) -> list[str]:
        if message.uid == 0:
            return list(self._mail["admins"])
        known, domain = self._mail["addresses"].get(message.user), self._mail["domain"]
        guess = message.user if "@" in message.user else f"{message.user}@{domain}" if domain else ""
        address = known or guess
        if not fullmatch(ADDRESS, address):
            text = f"no e-mail address of {message.user} is known: add it to notifications.email.addresses"
            raise UndeliverableError(text)
        return [address]

    def _connect(self) -> smtplib.SMTP:
        mail = self._mail
        # Before anything is said to anybody.
        password = secret.read(mail["password_file"]) if mail["password_file"] else None
        context = ssl.create_default_context()
        server: smtplib.SMTP | None = None
        try:
            if mail["security"] == "tls":
                server = smtplib.SMTP_SSL(mail["server"], mail["port"], timeout=self._timeout_s, context=context)
            else:
                server = smtplib.SMTP(mail["server"], mail["port"], timeout=self._timeout_s)
            if mail["security"] == "starttls":
                server.starttls(context=context)
            if password is not None:
                server.login(mail["user"], password)
        except (smtplib.SMTPException, OSError) as error:
            if server is not None:
                server.close()
            raise UnreachableError(f"{self._name}: {_said(error)}") from None
        self._server = server
        return server

    def _refused(self, code: int, what: str) -> None:
        if code in _TEMPORARY:
            raise UnreachableError(f"{self._name}: it takes {what} later (code {code})")
        raise UndeliverableError(f"{self._name}: it refused {what} (code {code})")


def _said(error: Exception) -> str:
    """Return what went wrong. Not what the server said: it may repeat what it was told."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return "login and password were refused: check notifications.email.user and password_file"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "it does not offer what notifications.email asks of it (TLS or login)"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answered with code {error.smtp_code}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
