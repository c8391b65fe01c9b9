"""`image list` and `image delete`."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Final

import click

from ds01.cli.container.naming import IMAGE_LABEL, is_private
from ds01.cli.container.options import json_option
from ds01.cli.container.own import for_each, name_of
from ds01.cli.container.removal import confirmed, yes_option
from ds01.cli.engine import Engine, EngineError
from ds01.cli.guide import guided
from ds01.cli.image import place
from ds01.cli.output import OK, listing, plain, say_json

_MIB: Final = 1 << 20
_DEPTHS: Final = ("*", "*/*", "*/*/*", "*/*/*/*")
"""A star of the engine's pattern ends at a slash."""
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


@click.command("list")
@click.option("-a", "--all", "everything", is_flag=True, help="Also the public ones that are on this server.")
@json_option
@guided(
    """These are the images that you made. Public ones, from registries, are shared by all; with --all they are shown,
    too.""",
    following="`container deploy NAME IMAGE` makes a container from one",
)
def listed(*, everything: bool, as_json: bool) -> int:
    """List images."""
    engine = Engine()
    uid = os.getuid()
    own = {row["Id"]: row for row in _own(engine, uid)}
    rows = list(own.values()) + ([row for row in _asked(engine, []) if row["Id"] not in own] if everything else [])
    used = _used(engine)
    found = [
        {"name": name, "id": row["Id"], "size_bytes": row["Size"], "created": row["Created"] * 1000,
         "containers": used.get(name, [])}
        for row in rows for name in _names(row, uid)
    ]  # fmt: skip
    found.sort(key=lambda entry: entry["name"])
    if as_json:
        say_json(found)
        return OK
    if not found:
        click.echo("no images: `image create NAME` makes one")
        return OK
    heading = ["IMAGE", "SIZE", "MADE", "CONTAINERS"]
    lines = [
        [plain(entry["name"]), f"{entry['size_bytes'] / _MIB:.0f} MiB", _age(entry["created"] // 1000),
         ", ".join(entry["containers"]) or "-"]
        for entry in found
    ]  # fmt: skip
    click.echo(listing([heading, *lines]))
    return OK


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=place.complete)
@yes_option
@json_option
@guided(
    """This takes an image away and frees its room. Its Dockerfile stays, so it can be built again. A container that was
    made from it goes on as it is.""",
    following="`image list` shows what is left",
)
def delete(*, names: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Delete images; their Dockerfiles stay."""
    engine = Engine()
    uid = os.getuid()
    names = tuple(dict.fromkeys(map(place.checked, names)))

    def check(name: str) -> None:
        if not engine.exists("images", f"ds01-{uid}/{name}", "json"):
            raise EngineError(f"{name}: you have no such image: `image list` shows yours", 404)

    def act(name: str) -> str:
        reference = f"ds01-{uid}/{name}"
        engine.ask("DELETE", "images", reference)
        if any(name.removesuffix(":latest") == tag for row in _asked(engine, [f"{reference}*"])
               for tag in _names(row, uid)):  # fmt: skip
            raise EngineError(f"{name}: is still there after it was deleted: tell the administrator")
        where = place.directory_of(name, None) / "Dockerfile"
        return f"{name} is deleted" + (f"; {where} stays" if where.is_file() else "")

    return for_each(names, confirmed(names, check, act, "" if yes else "Delete {}?"), as_json=as_json)


def own_names(engine: Engine) -> list[str]:
    """Return the names of the caller's images, as they type them. Raises EngineError."""
    uid = os.getuid()
    return sorted(name for row in _own(engine, uid) for name in _names(row, uid))


def _own(engine: Engine, uid: int) -> list[dict[str, Any]]:
    return _asked(engine, [f"ds01-{uid}/{depth}" for depth in _DEPTHS])


def _asked(engine: Engine, references: list[str]) -> list[dict[str, Any]]:
    query = {"filters": json.dumps({"reference": references})} if references else {}
    return engine.ask("GET", "images", "json", query=query) or []


def _names(row: dict[str, Any], uid: int) -> list[str]:
    """Return the names of an image as its owner types them, without those that only one container uses."""
    tags = [str(tag).removeprefix(f"ds01-{uid}/").removesuffix(":latest") for tag in row.get("RepoTags") or []]
    return [tag for tag in tags if tag != "<none>:<none>" and not is_private(tag, uid)]


def _used(engine: Engine) -> dict[str, list[str]]:
    """Return which containers were made from which image."""
    found: dict[str, list[str]] = {}
    for row in engine.ask("GET", "containers", "json", query={"all": "1"}) or []:
        image = str((row.get("Labels") or {}).get(IMAGE_LABEL) or row.get("Image"))
        found.setdefault(image.removesuffix(":latest"), []).append(name_of(row))
    return found


def _age(created: int) -> str:
    seconds = max(0, int(time.time()) - created)
    for unit, name in _UNITS:
        if number := seconds // unit:
            return f"{number} {name}{'' if number == 1 else 's'} ago"
    return "now"
