"""GPU sections: division into MIG instances, choice of devices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from ds01.mig_geometry import closest_profile
from ds01.policy.fields import Choice, Flag, Whole
from ds01.policy.models.base import Old, Section
from ds01.policy.problems import BadValue
from ds01.policy.text_fields import Text

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

_PROFILE = r"[1-7]g\.[0-9]{1,3}gb(\+me)?"
# No GPU has room for more.
_INSTANCES_MAX = 7
_NOT_BUILT = "GPUs are divided by mig_profile or mig_layout"


class Profile(Text):
    """The name of a MIG profile."""

    def __init__(self, **options: Any) -> None:
        """Accept names that look like a profile; whether a GPU has it is a rule."""
        super().__init__(_PROFILE, 'a MIG profile like "1g.10gb" or "3g.40gb"', **options)

    def parse(self, value: Any) -> str:
        """Return the name."""
        try:
            return super().parse(value)
        except BadValue as error:
            near = closest_profile(value) if isinstance(value, str) else None
            raise BadValue(error.expected, f"did you mean {near}?" if near else error.fix) from error


class MigInstance(Section):
    """One MIG instance: "2g.20gb", or with its first memory slice "2g.20gb@4"."""

    profile: Annotated[str, Profile()]
    """Profile name as nvidia-smi prints it."""
    start: Annotated[int | None, Whole(0, 7, nullable=True, null_means="wherever it fits")] = None
    """First memory slice, 0 to 7."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        profile, at, start = value.partition("@")
        return {"profile": profile} | (
            {"start": int(start) if re.fullmatch("[0-9]{1,9}", start) else start} if at else {}
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Accept the short form too."""
        schema = super().__get_pydantic_json_schema__(core, handler)
        return {"anyOf": [{"type": "string", "pattern": f"^{_PROFILE}(@[0-7])?$"}, schema]}


def _layout_of_counts(value: Any) -> Any:
    """Turn {0: {enable, profile, instances}} into {0: [profile, ...]}."""
    if not isinstance(value, dict):
        return value
    layout: dict[str, Any] = {}
    for gpu, entry in value.items():
        layout[gpu] = entry
        if isinstance(entry, dict) and set(entry) <= {"enable", "profile", "instances"}:
            profile, count = entry.get("profile"), entry.get("instances", 1)
            if entry.get("enable", True) is False or (count == 0 and count is not False):
                layout[gpu] = []
            elif profile is not None and isinstance(count, int) and count > 0 and count is not True:
                # More than any GPU has room for is refused as such.
                layout[gpu] = [profile] * min(count, _INSTANCES_MAX + 1)
    return layout


class GpuAllocation(Section):
    """How GPUs are divided (`ds01 mig`) and handed out (`ds01 gpu`)."""

    old_names: ClassVar[dict[str, Old]] = {
        "mig_gpus": Old(to="mig_layout", convert=_layout_of_counts),
        "slots_per_gpu": Old(note=_NOT_BUILT),
        "mig_instances_per_gpu": Old(note=_NOT_BUILT),
        "mig_strategy": Old(note=_NOT_BUILT),
        "allocation_method": Old(note="strategy decides"),
    }

    enable_mig: Annotated[bool, Flag()] = False
    """Whether GPUs are divided into MIG instances."""
    mig_profile: Annotated[str | None, Profile(nullable=True, null_means="none")] = None
    """Divide every GPU into as many instances of this profile as fit."""
    mig_layout: dict[str, tuple[MigInstance, ...]] = Field(default_factory=dict)
    """Instances per GPU; the GPU by index, UUID or PCI address. An empty list leaves that GPU whole."""
    strategy: Annotated[str, Choice("least_allocated", "packed")] = "least_allocated"
    """Spread over GPUs, or fill one before the next."""
    respect_reservations: Annotated[bool, Flag()] = True
    """Whether reserved devices are kept free for their owner."""
    reservations_displace: Annotated[bool, Flag()] = False
    """Whether what still runs on a reserved device is stopped, after two warnings; otherwise its owner is only told."""
