"""A channel of Microsoft Teams, by a workflow "when a webhook request is received".

Such workflows take Adaptive Cards, not the cards of the connectors that they replaced
(https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using).
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from ds01.notify import secret
from ds01.notify.message import Message, UndeliverableError, UnreachableError, words

TIMEOUT_S: Final = 10.0
"""For each answer."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1"})
_LATER: Final = frozenset({404, 408, 429})
"""Also where the workflow was switched off: somebody will switch it on again, or change the address."""
_READ_MAX: Final = 1 << 16


def send(settings: Mapping[str, Any], message: Message, *, timeout_s: float = TIMEOUT_S) -> None:
    """Post one message.

    Raises:
        UndeliverableError: It was refused for good.
        UnreachableError: There was no answer, or none that says it was taken. No text holds the address, a secret.
    """
    path = settings["teams"]["webhook_file"]
    address = urlsplit(secret.read(path))
    host = address.hostname
    if host is None or not (address.scheme == "https" or (address.scheme == "http" and host in _LOOPBACK)):
        raise UnreachableError(f"{path}: expected an address that begins with https://: copy it from the workflow")
    body = json.dumps(card(settings, message)).encode("ascii")
    try:
        status = _post(address, body, timeout_s)
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise UnreachableError(f"Teams ({host}): {why}") from None
    if 200 <= status < 300:  # noqa: PLR2004 - the codes of success
        return
    if 400 <= status < 500 and status not in _LATER:  # noqa: PLR2004 - our fault
        raise UndeliverableError(f"Teams ({host}): it refused the message (code {status}): check {path}")
    raise UnreachableError(f"Teams ({host}): it answered with code {status}")


def card(settings: Mapping[str, Any], message: Message) -> dict[str, Any]:
    """Return the Adaptive Card of a message.

    Texts of others are runs of plain text: in a TextBlock they could hold links.
    """
    title = words(settings, "subject", message)
    who = "to the administrators" if message.uid == 0 else f"to {message.user}"
    body = [_text(title, weight="Bolder"), _text(who, isSubtle=True), *map(_text, message.lines)]
    content = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [*body, _text(words(settings, "closing", message), isSubtle=True)],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": content}
    return {"type": "message", "attachments": [attachment]}


def _text(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}


def _post(address: SplitResult, body: bytes, timeout_s: float) -> int:
    """Return the code of the answer. A redirection is not followed: the secret is for one host alone."""
    host = str(address.hostname)
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, address.port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, address.port, timeout=timeout_s)
    try:
        target = address._replace(scheme="", netloc="", fragment="").geturl() or "/"
        connection.request("POST", target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read(_READ_MAX)
    finally:
        connection.close()
    return answer.status
