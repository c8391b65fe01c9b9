"""Is the engine set up so that no container escapes the limits, and nobody but root can talk to it?"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

from ..engine import api, group, package, settings, units
from .model import Check, failed, ok, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FIX: Final = "Run site.yml again with --tags engine."
_NEARLY: Final = 0.8
_BUILT_IN: Final = 31
"""Networks for which an engine has addresses that was told nothing: 172.17 to 172.31, and 192.168 in sixteen parts."""


def check_engine() -> Check:
    """The running engine, not its file, says that every setting of ours is in force."""
    try:
        info = api.Engine().info()
    except api.EngineUnavailableError as error:
        return failed("engine", str(error), "systemctl status docker.service shows why.")
    if wrong := [text for text, holds in _RULES if not holds(info)]:
        return failed("engine", f"not in force: {', '.join(wrong)}", _FIX)
    return ok("engine", f"{info['ServerVersion']}, systemd cgroups, live-restore, runc")


def check_engine_access() -> Check:
    """Only root reaches the engine: its socket is closed and the group that would open it is empty."""
    path = units.socket_path()
    if path is not None and not units.socket_is_closed(path):
        return failed("engine access", f"{path} can be opened by others than root", _FIX)
    if people := group.members() + group.foreign_members():
        fix = "Remove them: gpasswd --delete NAME docker. Whoever is in that group is root."
        return failed("engine access", f"in group {group.GROUP}: {', '.join(people)}", fix)
    return ok("engine access", "only root")


def check_addresses() -> Check:
    """There are addresses for more networks: whoever gets none can start nothing."""
    try:
        running = api.Engine()
        pools = running.info().get("DefaultAddressPools") or []
        used = sum(row.get("Driver") == "bridge" for row in running.get("/networks"))
    except api.EngineUnavailableError as error:
        return failed("addresses", str(error), "systemctl status docker.service shows why.")
    parts = (int(pool["Size"]) - ip_network(pool["Base"], strict=False).prefixlen for pool in pools)
    most = sum(2**bits for bits in parts) or _BUILT_IN
    text = f"{used} networks, and addresses for about {most}"
    if used >= most * _NEARLY:
        fix = "Give it more: engine_settings.default-address-pools in the inventory. `docker network ls` shows whose."
        return warning("addresses", text, fix)
    return ok("addresses", text)


def check_builders() -> Check:
    """What `ds01 image build` runs is installed."""
    if lacking := package.missing_builders():
        names = " ".join(lacking)
        return warning("builds", f"`ds01 image build` does not work without {names}", f"apt-get install {names}")
    return ok("builds", "buildah is there for Dockerfiles that need BuildKit")


_RULES: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], bool]], ...]] = (
    ("systemd cgroup driver", lambda info: info.get("CgroupDriver") == "systemd"),
    ("live-restore", lambda info: bool(info.get("LiveRestoreEnabled"))),
    ("default runtime runc", lambda info: info.get("DefaultRuntime") == "runc"),
    # The engine lists CDI directories only when CDI is on.
    (
        "CDI",
        lambda info: (
            bool(info.get("CDISpecDirs"))
            or settings.version_tuple(str(info.get("ServerVersion", ""))) < settings.CDI_SINCE
        ),
    ),
)
