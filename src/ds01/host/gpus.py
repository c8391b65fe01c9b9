"""What the GPUs of a host mean for a deployment: can they be used, safely, and divided as the policy wants?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..mig_geometry import MODELS, Shape, Slot, is_gpu, misfit, model_of, uniform
from .findings import Finding, condition, refusal, warning
from .nvidia import SAFE, escapes_of, toolkit_version
from .nvml import Card, driver

_PCI: Final = Path("/sys/bus/pci/devices")
_NVIDIA: Final = "0x10de"
# PCI base class of display controllers and of processing accelerators.
_CLASSES: Final = ("0x03", "0x12")
# The first drivers that know a model and its MIG (NVIDIA MIG user guide).
_DRIVER_LEAST: Final = {"A100": (450, 80, 2), "H100": (525, 85, 12), "H200": (550, 90, 7)}


class Survey(NamedTuple):
    """What was found."""

    present: bool
    """Whether there is any GPU of NVIDIA, with a driver or without."""
    driver: str
    """Version; "" if none answers."""
    toolkit: str
    """Version of the container toolkit; "" if there is none."""
    cards: tuple[Card, ...]

    def facts(self) -> dict[str, Any]:
        """Return it for the roles."""
        return {
            "present": self.present,
            "driver": self.driver,
            "toolkit": self.toolkit,
            "gpus": [card._asdict() for card in self.cards],
        }


def survey() -> Survey:
    """Look for GPUs. Changes nothing."""
    answer = driver()
    version, cards = answer or ("", [])
    present = bool(cards) or _on_the_bus()
    return Survey(present, version, toolkit_version() if present else "", tuple(cards))


def findings(found: Survey, allocation: Mapping[str, Any]) -> Iterator[Finding]:
    """Give what is in the way of using the GPUs; nothing on a host without any."""
    if not found.present:
        if allocation["enable_mig"] and allocation["mig_layout"]:
            fix = "nothing to do if this host has none; else look at `lspci | grep -i nvidia`"
            yield warning("no-gpu", "gpu_allocation", "no GPU of NVIDIA in this host", "the GPUs it divides", fix)
        return
    if not found.cards:
        fix = "install the driver (Debian: apt install nvidia-driver) and reboot; or accept that GPUs stay unused with "
        fix += "preflight_accept: [no-driver]"
        yield condition("no-driver", "NVIDIA driver", "does not answer", "a driver for the GPUs of this host", fix)
        return
    yield from software(found)
    yield from _layout(found.cards, allocation)


def software(found: Survey) -> Iterator[Finding]:
    """Give why driver or container toolkit will not do."""
    yield from _driver(found)
    yield from _toolkit(found.toolkit)


def _driver(found: Survey) -> Iterator[Finding]:
    version = tuple(int(part) for part in re.findall(r"[0-9]+", found.driver))
    for name in sorted({card.name for card in found.cards}):
        least = next((least for family, least in _DRIVER_LEAST.items() if re.search(rf"\b{family}\b", name)), ())
        if version < least:
            expected = f"{'.'.join(map(str, least))} or newer for {name}"
            yield refusal("driver", "NVIDIA driver", found.driver, expected, "upgrade the driver and reboot")


def _toolkit(version: str) -> Iterator[Finding]:
    safe = f"nvidia-container-toolkit {'.'.join(map(str, SAFE))} or newer"
    if not version:
        fix = "install it from NVIDIA's repository (package nvidia-container-toolkit)"
        yield refusal("toolkit", "nvidia-ctk", "not installed", safe, fix)
    elif escapes := escapes_of(version):
        value = f"{version}, out of whose containers {', '.join(escapes)} lead"
        fix = "upgrade the package nvidia-container-toolkit; whoever may start a container could become root"
        yield refusal("toolkit", "nvidia-ctk", value, safe, fix)


def _layout(cards: Iterable[Card], allocation: Mapping[str, Any]) -> Iterator[Finding]:
    """Hold the wanted layout against the models of this host. One that is in no table is left to its driver."""
    if not allocation["enable_mig"]:
        return
    cards = list(cards)
    named: set[str] = set()
    for name, instances in allocation["mig_layout"].items():
        path = f"gpu_allocation.mig_layout.{name}"
        card = next((card for card in cards if is_gpu(name, card.number, card.uuid, card.pci_address)), None)
        if card is None:
            there = ", ".join(f"{card.number} ({card.pci_address})" for card in cards)
            yield refusal("mig", path, name, "a GPU of this host", f"it has {there}")
            continue
        named.add(card.uuid)
        slots = [Slot(instance["profile"], instance["start"]) for instance in instances]
        yield from _fits(path, card, slots)
    profile = allocation["mig_profile"]
    for card in cards:
        # What cannot be divided at all stays whole.
        if profile and card.mig and card.uuid not in named:
            yield from _fits("gpu_allocation.mig_profile", card, uniform(profile, _profiles(card) or {}))


def _fits(path: str, card: Card, slots: Iterable[Slot]) -> Iterator[Finding]:
    profiles = _profiles(card)
    slots = list(slots)
    if profiles is None or not slots:
        return
    if problem := misfit(slots, profiles):
        value = f"{', '.join(map(str, slots))} on GPU {card.number} ({card.name})"
        yield refusal("mig", path, value, *problem)


def _profiles(card: Card) -> Mapping[str, Shape] | None:
    """Return what a GPU offers, {} if it has no MIG, None if only its driver knows."""
    model = model_of(card.name, card.memory_bytes)
    return {} if not card.mig else MODELS[model] if model else None


def _on_the_bus() -> bool:
    def text(path: Path) -> str:
        try:
            return path.read_text(encoding="ascii").strip()
        except OSError:
            return ""

    devices = _PCI.iterdir() if _PCI.is_dir() else ()
    return any(text(path / "vendor") == _NVIDIA and text(path / "class").startswith(_CLASSES) for path in devices)
