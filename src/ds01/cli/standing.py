"""How somebody stands: what they have now, and which step follows from it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from ds01.cli.asking import HOST_LEDGER, asker
from ds01.cli.engine import Engine
from ds01.cli.limits import use_of
from ds01.cli.output import plain
from ds01.policy import DEFAULT_PATH
from ds01.problems import ProblemsError, ReportedError


@dataclass(frozen=True)
class Standing:
    """What is known; `unknown` says why nothing is."""

    containers: dict[str, str] = field(default_factory=dict)
    """State of each, by name."""
    images: bool = False
    devices: tuple[str, ...] = ()
    use: str = ""
    place: int | None = None
    """In the queue."""
    notices: int = 0
    unknown: str = ""

    @property
    def text(self) -> str:
        """What somebody has."""
        if self.unknown:
            return f"What you have is not known here: {self.unknown}"
        named = [f"{name} ({state})" for name, state in sorted(self.containers.items())]
        lines = [f"You have {self.use}"]
        lines += [f"  containers: {', '.join(named)}"] if named else []
        lines += [f"  GPU: {', '.join(self.devices)}"] if self.devices else []
        return "\n".join(map(plain, lines))

    @property
    def advice(self) -> str:
        """What to do from here."""
        states = {state: name for name, state in sorted(self.containers.items(), reverse=True)}
        if self.unknown:
            return "From here: `ds01 health` shows what does not answer"
        if self.notices:
            step = f"`ds01 notices --new`: {self.notices} messages wait for you"
        elif self.place is not None:
            step = f"you are number {self.place} of those who wait: `ds01 gpu queue` shows the others"
        elif "running" in states:
            step = f"`container attach {states['running']}` opens a shell, `container retire` gives its GPU back"
        elif "paused" in states:
            step = f"`container unpause {states['paused']}` lets it go on"
        elif states:
            name = next(iter(states.values()))
            step = f"`container start {name}` starts it again, `container retire {name}` takes it away"
        elif self.images:
            step = "`container deploy NAME IMAGE` makes a container; `image list` shows your images"
        else:
            step = "`image create NAME` makes your first image"
        return plain(f"From here: {step}")


def standing() -> Standing:
    """Ask how the caller stands. Raises nothing: what is not known is said."""
    ask = asker(DEFAULT_PATH, HOST_LEDGER)
    try:
        usage, queue = ask("GET", "usage"), ask("GET", "queue")
        notices = ask("GET", "notices", {"unseen": "1"})
        # Root's engine shows what everybody has.
        containers, images = ({}, True) if os.geteuid() == 0 else _things()
    except (ReportedError, ProblemsError, OSError) as error:
        return Standing(unknown=str(error))
    quotas = (("max_containers_per_user", "containers"), ("max_mig_instances", "GPU devices"))
    return Standing(
        containers=containers,
        images=images,
        devices=tuple(device["id"] for device in usage["devices"]),
        use=", ".join(f"{use_of(*usage['quotas'][name])[0]} {what}" for name, what in quotas),
        place=min((one["position"] for one in queue if one["user"] == usage["user"]), default=None),
        notices=len(notices),
    )


def _things() -> tuple[dict[str, str], bool]:
    """Return one's containers with their states, and whether there are images of one's own."""
    from ds01.cli.container.own import name_of  # noqa: PLC0415 - it needs what asks here

    engine = Engine()
    rows: list[dict[str, Any]] = engine.ask("GET", "containers", "json", query={"all": "1"}) or []
    pattern = f'{{"reference": ["ds01-{os.getuid()}/*"]}}'
    images = engine.ask("GET", "images", "json", query={"filters": pattern})
    return {name_of(row): str(row.get("State")) for row in rows}, bool(images)
