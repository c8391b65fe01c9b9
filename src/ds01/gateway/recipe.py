"""What a Dockerfile builds on, and the Dockerfile as the engine gets it once every image is known."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ds01.gateway import dockerfile
from ds01.gateway.dockerfile import Dockerfile, Instruction
from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import decimal

_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_SCRATCH: Final = "scratch"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that a build starts from or copies from."""

    name: str
    platform: str
    """Empty for this machine's."""


@dataclass(frozen=True, slots=True)
class _Use:
    """A place in the Dockerfile where the id of an image belongs."""

    wanted: Wanted
    before: str
    after: str


@dataclass(slots=True)
class Recipe:
    """A judged Dockerfile."""

    wanted: list[Wanted] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    """Arguments that BuildKit would give, and that this file declares."""
    parts: list[str | _Use] = field(default_factory=list)

    def write(self, found: Mapping[Wanted, str], label: str) -> bytes:
        """Return the Dockerfile for the engine.

        Args:
            found: The id of every wanted image.
            label: What every stage begins with. Layers are found again by what they were made from, so that nobody
                is given layers that somebody else made.
        """
        lines = []
        for part in self.parts:
            line = part if isinstance(part, str) else f"{part.before}{found[part.wanted]}{part.after}"
            lines.append(line)
            if line.startswith("FROM "):
                lines.append(f"LABEL {label}")
        return "\n".join(lines).encode() + b"\n"


def plan(file: Dockerfile, given: Mapping[str, str], target: str | None = None) -> Recipe:
    """Judge a Dockerfile.

    Args:
        file: What was read.
        given: The arguments of the build.
        target: The stage that is wanted, if one is named.

    Raises:
        Refused: It reaches further than a build may, or cannot be decided.
    """
    return _Planner(file, given).plan(target)


def here() -> dict[str, str]:
    """The arguments that BuildKit sets by itself."""
    machine = platform.machine()
    arch = _MACHINES.get(machine, machine)
    return {
        f"{side}{name}": value
        for side in ("BUILD", "TARGET")
        for name, value in (("PLATFORM", f"linux/{arch}"), ("OS", "linux"), ("ARCH", arch), ("VARIANT", ""))
    }


class _Planner:
    def __init__(self, file: Dockerfile, given: Mapping[str, str]) -> None:
        self._file = file
        self._given = given
        self._here = here()
        self._global = {**self._here}
        self._expanded = 0
        self._stages: list[str | None] = []
        self._recipe = Recipe()

    def plan(self, target: str | None) -> Recipe:
        if self._file.escape != "\\":
            self._recipe.parts.append(f"# escape={self._file.escape}")
        for instruction in self._file.instructions:
            dockerfile.judge(instruction)
            if instruction.word == "FROM":
                self._from(instruction)
            elif instruction.word == "ARG":
                self._arg(instruction)
            elif not self._stages:
                instruction.refuse("the first instruction is not FROM", "begin with FROM IMAGE", "build.from")
            elif instruction.word == "COPY":
                self._copy(instruction)
            else:
                self._recipe.parts.append(instruction.text())
        if not self._stages:
            raise Refused(400, "the Dockerfile has no FROM", "build.from", "begin it with FROM IMAGE")
        if target and self._stage(target) is None:
            raise Refused(400, f"target stage {target[:80]!r} could not be found", "build.target", "name a stage")
        return self._recipe

    def _arg(self, instruction: Instruction) -> None:
        for name, value in dockerfile.declared(instruction):
            if name in self._here and name not in self._given:
                self._recipe.arguments[name] = self._here[name]
            if self._stages:
                continue
            if name in self._given:
                self._global[name] = self._given[name]
            elif value is not None:
                self._global[name] = dockerfile.expand(instruction, value, self._global)
                self._expanded += len(self._global[name])
                if self._expanded > dockerfile.SIZE_MAX:
                    instruction.refuse(f"arguments of more than {dockerfile.SIZE_MAX} characters", "write shorter ones")
        self._recipe.parts.append(instruction.text())

    def _from(self, instruction: Instruction) -> None:
        words = instruction.rest.split()
        alias = ""
        if len(words) == 3 and words[1].upper() == "AS":  # noqa: PLR2004 - IMAGE AS NAME
            alias = dockerfile.stage_name(words[2]) or ""
        if (len(words) != 1 and not alias) or alias == _SCRATCH or (alias and alias in self._stages):
            instruction.refuse("expected FROM IMAGE [AS NAME], each name once", "write it so", "build.from")
        name = dockerfile.expand(instruction, words[0], self._global)
        on = dockerfile.expand(instruction, dict(instruction.flags).get("platform", ""), self._global)
        after = f" AS {alias}" if alias else ""
        stage = self._stage(name, numbers=False)
        if not name:
            instruction.refuse(
                f"the name of the image ({words[0][:60]}) is empty", "give the argument a value", "build.from"
            )
        if stage is not None or name == _SCRATCH:
            self._recipe.parts.append(f"FROM {name.lower()}{after}")
        else:
            self._use(Wanted(name, "" if on == self._here["BUILDPLATFORM"] else on), "FROM ", after)
        self._stages.append(alias or None)

    def _copy(self, instruction: Instruction) -> None:
        flags = dict(instruction.flags)
        source = flags.pop("from", None)
        rest = "".join(f"--{name}={value} " for name, value in flags.items()) + instruction.rest
        if source is None:
            self._recipe.parts.append(f"COPY {rest}")
        elif "$" in source:
            instruction.refuse(f"--from={source[:60]} cannot be decided: variables are not expanded there",
                               "give it a stage: FROM ${NAME} AS x, then COPY --from=x", "build.from")  # fmt: skip
        elif (stage := self._stage(source)) is not None:
            if stage == len(self._stages) - 1:
                instruction.refuse("--from names its own stage", "name an earlier one", "build.from")
            self._recipe.parts.append(f"COPY --from={stage} {rest}")
        elif source.isdigit():
            instruction.refuse(f"--from={source}: there is no such stage yet", "name an earlier one", "build.from")
        else:
            self._use(Wanted(source, ""), "COPY --from=", f" {rest}")

    def _use(self, wanted: Wanted, before: str, after: str) -> None:
        if wanted not in self._recipe.wanted:
            self._recipe.wanted.append(wanted)
        self._recipe.parts.append(_Use(wanted, before, after))

    def _stage(self, name: str, *, numbers: bool = True) -> int | None:
        lowered = name.lower()
        if lowered in self._stages:
            return self._stages.index(lowered)
        number = decimal(name) if numbers else None
        return number if number is not None and number < len(self._stages) else None
