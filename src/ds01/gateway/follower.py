"""Follows what happens in the engine, so that what is gone is nobody's any more: `--rm`, a crash, an administrator."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Final

from ds01.gateway import jsonbody, pins, target
from ds01.gateway.engine import Engine
from ds01.gateway.gpus import Gpus
from ds01.gateway.handlers import mounts
from ds01.gateway.ownership import Kinds, Ownership
from ds01.gateway.refusals import Refused
from ds01.gateway.workers import Workers

_AGAIN_S: Final = 2.0
_FILTERS: Final = {"type": list(Kinds), "event": ["die", "destroy"]}

log = logging.getLogger(__name__)


async def follow(engine: Engine, ownership: Ownership, gpus: Gpus, disk: Workers) -> None:
    """Keep owners and pins in step with the engine, for ever. Raises nothing."""
    while True:
        try:
            await _sweep(engine, disk)
            await _follow(engine, ownership, gpus, disk)
        except Refused as error:
            log.warning("not following the engine now: %s", error)
        except Exception:
            # What it says is the engine's; nothing of it may end this for good.
            log.exception("not following the engine now")
        await asyncio.sleep(_AGAIN_S)


async def _sweep(engine: Engine, disk: Workers) -> None:
    found = await engine.get("containers", "json", query=[("all", "1")])
    if found.ok:
        tokens = {str((row.get("Labels") or {}).get(mounts.LABEL)) for row in found.json()}
        await disk.ask(lambda: pins.sweep(tokens))


async def _follow(engine: Engine, ownership: Ownership, gpus: Gpus, disk: Workers) -> None:
    query = [("filters", jsonbody.write(_FILTERS).decode())]
    call = await engine.call("GET", target.build(await engine.version(), ["events"], query))
    try:
        await call.answered()
        # What happened before this is in no stream.
        await ownership.read()
        await ownership.compare()
        rest = b""
        async for piece in call.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in filter(None, lines):
                await _gone(json.loads(line), ownership, gpus, disk)
    finally:
        call.finish()


async def _gone(event: dict[str, Any], ownership: Ownership, gpus: Gpus, disk: Workers) -> None:
    engine_id = str(event["Actor"]["ID"])
    if event["Action"] == "die":
        gpus.ended()
        return
    # First, for its name may be that of the next one already.
    for kind in Kinds:
        if event["Type"] == kind and ownership.known(kind, engine_id):
            ownership.destroyed(kind, engine_id)
    if event["Type"] == "container":
        gpus.removed(engine_id)
        if token := str(event["Actor"]["Attributes"].get(mounts.LABEL, "")):
            await disk.ask(lambda: pins.release(token))
