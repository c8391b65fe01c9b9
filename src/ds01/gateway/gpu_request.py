"""What a create asks of GPUs, in whatever spelling, as one request or none. Pure.

Device requests and CDI names count first, then devices by path, then the environment, and that only with NVIDIA's
runtime, as it is without DS01. What does not count is left out, and its owner is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ds01.allocator.request import BadRequest, Request
from ds01.cdi.spec import KIND, qualified, token_of
from ds01.gateway.refusals import Refused
from ds01.policy.problems import BadValue
from ds01.policy.units import parse_duration, parse_size

VISIBLE: Final = "NVIDIA_VISIBLE_DEVICES"
CUDA: Final = "CUDA_VISIBLE_DEVICES"
WAIT: Final = "ds01.wait"
"""The one label of ours that a client may set: how long to wait for a GPU."""
WAIT_MAX_S: Final = 24 * 3600
_READ_BY_RUNTIMES: Final = re.compile(
    r"NVIDIA_(?:VISIBLE_DEVICES|DRIVER_CAPABILITIES|REQUIRE_\w+|DISABLE_REQUIRE|MIG_\w+|IMEX_CHANNELS|GDS|MOFED|NVSWITCH"
    r"|GDRCOPY|CTK_\w+)|AMD_VISIBLE_DEVICES|DOCKER_RESOURCE_\w+"
)
_LOADED: Final = ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH")
_OF_ROOT: Final = re.compile(r"/(?:usr|opt|lib|lib64)(?:/(?!\.\.?(?:/|$))[A-Za-z0-9_.+-]+)*/?")
"""Directories that in the container are its image's, and on the host root's: nobody else puts a library there."""
_NODE: Final = re.compile(r"/dev/nvidia([0-9]{1,4})")
_OURS: Final = "nvidia.com/gpu="
_NOTHING: Final = frozenset({"", "void", "none"})
_GPU_CAPABILITIES: Final = frozenset({"gpu", "nvidia"})
_RULE: Final = "gpu.request"
_FIX: Final = "ask once: --gpus 2, --gpus all, or --gpus device=0:1"


@dataclass
class Asked:
    """What was found in the fields of a create. Names of devices are as the client wrote them."""

    requests: list[Mapping[str, Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """CDI names."""
    nodes: list[str] = field(default_factory=list)
    """Paths below /dev."""
    runtime: bool = False
    visible: str | None = None
    cuda: str | None = None
    wait_s: int | None = None

    def environment(self, entries: Iterable[str]) -> list[str]:
        """Take what is about GPUs out of an environment; the rest is returned."""
        kept = []
        for entry in entries:
            name, _, value = entry.partition("=")
            if name == VISIBLE:
                self.visible = value
            if name == CUDA:
                self.cuda = entry
            elif not _READ_BY_RUNTIMES.fullmatch(name):
                kept.append(entry)
        return kept

    def device(self, path: str) -> bool:
        """Take a device that is one of a GPU; whether it was."""
        if path.startswith((_OURS, f"{KIND}=")):
            self.names.append(path)
        elif path.startswith("/dev/nvidia"):
            self.nodes.append(path)
        else:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be claimed: by a request, or by the token of what an administrator granted before."""

    request: Request
    token: str | None = None


def read_wait(value: str) -> int:
    """Return the seconds of a `ds01.wait` label. Raises Refused."""
    try:
        seconds = parse_duration(value)
    except BadValue as error:
        raise Refused(
            400, f"label {WAIT}: {value[:40]!r}: expected {error.expected}", _RULE, error.elsewhere
        ) from error
    if not 0 < seconds <= WAIT_MAX_S:
        raise Refused(400, f"label {WAIT}: {value[:40]!r}: expected more than 0s and at most 24h", _RULE)
    return seconds


def judge(asked: Asked, warnings: list[str]) -> Wish | None:
    """Return what is to be claimed, or None for a container without GPU. Raises Refused."""
    try:
        wish = _judge(asked, warnings)
    except BadRequest as error:
        raise Refused(400, f"GPUs: {error}", _RULE, _FIX) from error
    if asked.visible is not None and asked.visible not in _NOTHING and wish is None:
        warnings.append(f"{VISIBLE} gives no GPU here and was left out: ask for one with --gpus")
    return wish


def cuda(asked: Asked, devices: int, warnings: list[str]) -> list[str]:
    """Return what stays of CUDA_VISIBLE_DEVICES: what makes sense among the devices that the container has.

    Args:
        asked: What was asked.
        devices: How many the container gets.
        warnings: What the owner is told.
    """
    if asked.cuda is None:
        return []
    value = asked.cuda.partition("=")[2]
    parts = [part.strip() for part in value.split(",")]
    known = {"-1", "", "NoDevFiles", *map(str, range(devices))}
    if not devices or known.issuperset(parts):
        return [asked.cuda]
    numbers = "0" if devices == 1 else f"0 to {devices - 1}"
    warnings.append(f"{CUDA}={value[:60]} was left out: inside the container its own GPUs are {numbers}")
    return []


def loader(given: Iterable[str], image: Iterable[str], warnings: list[str]) -> list[str]:
    """Return the environment of a container with GPUs: nothing in it has a program load what is not the system's.

    What prepares GPUs for a container runs as root between the host and it, and has loaded what these variables name
    (CVE-2025-23266). An empty entry is the last word over the image's own.

    Args:
        given: What was asked.
        image: The environment of the image.
        warnings: What the owner is told.
    """
    kept = list(given)
    for name in _LOADED:
        said = [entry.partition("=")[2] for entry in (*image, *kept) if entry.partition("=")[0] == name]
        kept = [entry for entry in kept if entry.partition("=")[0] != name]
        if not said or not said[-1]:
            kept += [f"{name}="] if any(said) else []
            continue
        parts = re.split("[:;]", said[-1])
        fit = [part for part in parts if name == _LOADED[-1] and _OF_ROOT.fullmatch(part)]
        kept.append(f"{name}={':'.join(fit)}")
        if fit != parts:
            left_out = ":".join(part for part in parts if part not in fit)
            warnings.append(
                f"{name}: {left_out[:60]} was left out: it is not offered in a container with GPUs; inside it, start a "
                f"program that needs it by `env {name}=... PROGRAM`"
            )
    return kept


def _judge(asked: Asked, warnings: list[str]) -> Wish | None:
    parts = _Parts()
    for number, entry in enumerate(asked.requests):
        parts.take(entry, f"DeviceRequests[{number}]", warnings)
    for name in asked.names:
        parts.take_name(name, warnings)
    if not parts:
        numbered = [match[1] for path in asked.nodes if (match := _NODE.fullmatch(path))]
        if numbered:
            parts.named += numbered
        elif asked.nodes:
            warnings.append(f"--device {asked.nodes[0][:60]} gives no GPU here and was left out: ask with --gpus")
    elif asked.nodes:
        warnings.append(f"--device {asked.nodes[0][:60]} was left out: the devices come with the GPUs asked for")
    if not parts and asked.runtime:
        if asked.visible is None:
            warnings.append("--runtime nvidia gives no GPU here and was left out: ask for one with --gpus")
        elif asked.visible not in _NOTHING:
            parts.named += asked.visible.split(",")
    return parts.wish()


class _Parts:
    """The pieces of what was asked, until it is clear that they are one."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.named: list[str] = []
        self.counts: list[int] = []
        self.all = False
        self.options: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self.tokens or self.named or self.counts or self.all)

    def take(self, entry: Mapping[str, Any], path: str, warnings: list[str]) -> None:
        """Take one device request of the API."""
        driver, ids, count = entry.get("Driver") or "", entry.get("DeviceIDs") or [], entry.get("Count") or 0
        wanted = {name for names in entry.get("Capabilities") or [] for name in names or []}
        if driver == "cdi":
            for name in ids:
                self.take_name(str(name), warnings)
            return
        if driver not in {"", "nvidia"} or not (driver or not wanted or wanted & _GPU_CAPABILITIES):
            what = driver or ",".join(sorted(map(str, wanted)))
            warnings.append(f"{path}: {what[:60]} is not offered on this server; it was left out")
            return
        if ids and count:
            raise Refused(400, f"{path}: cannot set both Count and DeviceIDs on device request", _RULE, _FIX)
        if count < 0:
            self.all = True
        elif count:
            self.counts.append(count)
        elif not ids:
            warnings.append(f"{path}: asks for no GPU; it was left out")
            return
        self.named += map(str, ids)
        for name, value in (entry.get("Options") or {}).items():
            if name not in {"profile", "memory", "full"}:
                warnings.append(f"{path}: option {name[:40]} is not known here; it was left out")
            elif self.options.setdefault(name, str(value)) != str(value):
                raise Refused(400, f"{path}: two values for option {name}", _RULE, _FIX)

    def take_name(self, name: str, warnings: list[str]) -> None:
        """Take one CDI name."""
        if (token := token_of(name)) is not None:
            self.tokens.append(token)
        elif name.startswith(_OURS):
            self.named.append(name)
        else:
            warnings.append(f"--device {name[:60]} is not offered on this server; it was left out")

    def wish(self) -> Wish | None:
        """Return all of it as one. Raises Refused where it is several things, BadRequest where it is nonsense."""
        kinds = [bool(self.tokens), bool(self.named), bool(self.counts), self.all]
        if not any(kinds):
            return None
        if sum(kinds) > 1 or len(set(self.tokens)) > 1:
            raise Refused(
                400, "a container asks for GPUs in one way: by number, by name, all, or by one grant", _RULE, _FIX
            )
        if self.tokens:
            if self.options:
                raise Refused(400, f"{qualified(self.tokens[0])[:60]}: its devices are chosen already", _RULE, _FIX)
            return Wish(Request(), self.tokens[0])
        if self.named:
            named = Request.named(self.named)
            return Wish(_with(named, self.options))
        return Wish(_with(Request(count=None if self.all else sum(self.counts)), self.options))


def _with(request: Request, options: Mapping[str, str]) -> Request:
    if not options:
        return request
    full = options.get("full", "false")
    if full not in {"true", "false"}:
        raise BadRequest(f"option full: {full[:40]!r}: write true or false")
    try:
        memory = parse_size(options["memory"]) if "memory" in options else 0
    except BadValue as error:
        raise BadRequest(f"option memory: {options['memory'][:40]!r}: expected {error.expected}") from error
    profile = options.get("profile")
    return Request(request.count, profile, memory, full == "true", request.devices, request.runtime)
