"""Whether somebody's containers, volumes and images leave room for more. What runs goes on, whatever it takes."""

from __future__ import annotations

from typing import Final

from ds01.gateway.exchange import Exchange
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused
from ds01.lifecycle.room import LIMIT, advice
from ds01.policy.units import rounded_size

GROWS: Final = frozenset(
    {"create_container", "create_volume", "pull_image", "load_images", "build", "commit", "put_archive"}
)
"""What takes more space by itself. Starting is none of it: what is inside a container can be removed only there."""


async def see(exchange: Exchange, ownership: Ownership) -> None:
    """Refuse when somebody's things take all the space they may. Raises Refused.

    What they take was measured minutes ago; what was removed since then is not counted any more.
    """
    caller = exchange.caller
    limit: int | None = (await exchange.people.limits(caller.person)).values[LIMIT]
    if limit is None:
        return
    uses = await ownership.disk_uses(caller.uid)
    if sum(use.bytes for use in uses) < limit:
        return
    images = (await exchange.engine.get("images", "json", query=[("all", "1")])).json()
    present = {
        "container": frozenset(engine_id for engine_id, _ in ownership.owned("container", caller.uid)),
        "volume": frozenset(engine_id for engine_id, _ in ownership.owned("volume", caller.uid)),
        "image": frozenset(str(row["Id"]) for row in images),
    }
    left = [use for use in uses if use.engine_id in present[use.kind]]
    used = sum(use.bytes for use in left)
    if used < limit:
        return
    what = f"{rounded_size(used)} of {rounded_size(limit)}"
    raise Refused(
        403,
        f"your containers, volumes and images take {what}, so nothing new is made",
        f"limits.{LIMIT}",
        advice(left),
        facts={"current": used, "requested": None, "limit": limit},
    )
