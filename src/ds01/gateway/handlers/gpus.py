"""GPUs of containers: a claim at create, devices at each start, and what the owner sees of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from ds01.allocator.answers import ids
from ds01.allocator.request import Request
from ds01.cdi.spec import qualified, token_of
from ds01.gateway import gpu_request, target
from ds01.gateway.conversation import Gone
from ds01.gateway.engine import ANSWER_S, EngineGone
from ds01.gateway.exchange import Exchange
from ds01.gateway.gpu_request import WAIT
from ds01.gateway.handlers.create_fields import Draft
from ds01.gateway.head import ResponseHead
from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import decimal
from ds01.reconcile import labels

_STOP_S: Final = 10
"""The engine's own."""
_STOP_MOST_S: Final = int(ANSWER_S) - 10
"""Of a restart: below the time in which the engine must answer."""
_RUNS: Final = frozenset({204, 304})

Query = list[tuple[str, str]]


@dataclass
class Claim:
    """What a container that is being made will have."""

    token: str
    bound: bool = False


@asynccontextmanager
async def claimed(
    draft: Draft, body: dict[str, Any], host: dict[str, Any], image: list[str]
) -> AsyncIterator[Claim | None]:
    """Claim what a create asks for and write it into the request; None for a container without GPU.

    The claim ends with the block unless it was bound to the container. Where nobody can say whether there is one, it is
    left: the reconciler binds it, or it ends by itself after minutes.

    Args:
        draft: The container in the making.
        body: The request to the engine.
        host: Its HostConfig.
        image: The environment of its image.

    Raises:
        Refused: There is no such device for its owner, or none can be given out now.
    """
    exchange, asked = draft.exchange, draft.gpus
    person = exchange.caller.person
    if asked.runtime and asked.visible is None:
        asked.visible = _image_says(image)
    wish = gpu_request.judge(asked, draft.warnings)
    if wish is None:
        body["Env"] += gpu_request.cuda(asked, 0, draft.warnings)
        yield None
        return
    with exchange.watched() as gone:
        allocation = await exchange.gpus.allocate(person, wish, asked.wait_s, gone)
    devices = allocation.devices
    request = wish.request if wish.token is None else Request(count=len(devices))
    if allocation.note:
        draft.warnings.append(f"GPU: {allocation.note}")
    if request.count is None:
        draft.warnings.append(f"--gpus all is what you may have: {len(devices)} ({ids(devices)})")
    host["DeviceRequests"] = [{"Driver": "cdi", "DeviceIDs": [qualified(allocation.token)]}]
    body["Labels"] |= {labels.TOKEN: allocation.token, labels.NAME: labels.write(request.as_dict())}
    body["Env"] = gpu_request.loader(body["Env"], image, draft.warnings)
    body["Env"] += gpu_request.cuda(asked, len(devices), draft.warnings)
    claim = Claim(allocation.token)
    unsure = False
    try:
        yield claim
    except (EngineGone, Gone, asyncio.CancelledError):
        unsure = True
        raise
    finally:
        # A grant of an administrator's stays for the next try.
        if not claim.bound and not unsure and wish.token is None:
            exchange.gpus.close(person, claim.token)


async def started(
    exchange: Exchange, found: Mapping[str, Any], forward: Callable[[str, Query], Awaitable[ResponseHead]]
) -> ResponseHead:
    """Start or restart a container with the devices that its claim may have now; one without a claim as it was.

    Args:
        exchange: The request.
        found: The engine's inspection of the container.
        forward: Sends a start or restart with a query to the engine, and relays the answer.

    Raises:
        Refused: It may have none now.
    """
    query = [(name, value) for name, value in exchange.query if name != "detachKeys"]
    action = exchange.route.pattern[-1]
    token = token_in(found)
    if token is None:
        return await forward(action, query)
    person = exchange.caller.person
    if action == "restart":
        seconds = patience(exchange.parameter("t"), (found.get("Config") or {}).get("StopTimeout"))
        query = [*((name, value) for name, value in query if name != "t"), ("t", str(seconds))]
        if not (found.get("HostConfig") or {}).get("AutoRemove"):
            # In two steps: its end, which the reconciler sees, comes before its start in the ledger.
            path = target.build(await exchange.version(), ["containers", str(found["Id"]), "stop"], query)
            await exchange.engine.ask("POST", path)
            action, query = "start", []
    container = str(found["Id"]), str(found.get("Name") or "").removeprefix("/")
    with exchange.watched() as gone:
        await exchange.gpus.start(person, token, container, _wait(found), gone)
    head = await forward(action, query)
    if head.status not in _RUNS:
        exchange.gpus.stop(person, token, "the engine did not start its container")
    return head


def token_in(found: Mapping[str, Any]) -> str | None:
    """Return the token of the claim of an inspected container."""
    tokens = (token_of(str(name)) for request in _requests(found) for name in request.get("DeviceIDs") or [])
    return next((token for token in tokens if token), None)


def as_asked(found: Any) -> Any:
    """Show the owner of a container the GPUs that were asked for, as tools read and send them."""
    if not isinstance(found, dict) or token_in(found) is None:
        return found
    marks = (found.get("Config") or {}).get("Labels") or {}
    request: dict[str, Any] = json.loads(labels.read(str(marks.get(labels.NAME, ""))))
    if not request:
        return found
    options = {name: str(request[name]) for name in ("profile",) if name in request}
    if "memory_bytes" in request:
        options["memory"] = f"{request['memory_bytes']}b"
    if request.get("full"):
        options["full"] = "true"
    devices = request.get("devices")
    count = 0 if devices else request.get("count", 1)
    shown = {
        "Driver": "", "Count": -1 if count is None else count, "DeviceIDs": devices, "Capabilities": [["gpu"]],
        "Options": options,
    }  # fmt: skip
    return found | {"HostConfig": found["HostConfig"] | {"DeviceRequests": [shown]}}


def _requests(found: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    given = (found.get("HostConfig") or {}).get("DeviceRequests") or []
    return [request for request in given if request.get("Driver") == "cdi"]


def _wait(found: Mapping[str, Any]) -> int | None:
    given = ((found.get("Config") or {}).get("Labels") or {}).get(WAIT)
    try:
        return None if given is None else gpu_request.read_wait(str(given))
    except Refused:
        # Of an image, or from before: nobody can change it now.
        return None


def patience(asked: str | None, own: int | None) -> int:
    """Return the seconds between SIGTERM and SIGKILL of a restart.

    Args:
        asked: The parameter of the request.
        own: The container's own time, where it has one.
    """
    # Negative is without end.
    wanted = decimal(asked or str(_STOP_S if own is None else own))
    return _STOP_MOST_S if wanted is None else min(wanted, _STOP_MOST_S)


def _image_says(environment: Iterable[str]) -> str | None:
    """Return what an image says about GPUs to NVIDIA's runtime."""
    start = f"{gpu_request.VISIBLE}="
    said = [entry.removeprefix(start) for entry in environment if entry.startswith(start)]
    return said[-1] if said else None
