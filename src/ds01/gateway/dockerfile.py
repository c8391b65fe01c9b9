"""Dockerfiles: read into instructions, so that what the engine builds is written anew from what was judged.

Each instruction becomes one line without continuation, comment or here-document: there is nothing left in which the
engine's reader could see something else than this one. What cannot be decided is refused, with what to write instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from ds01.gateway.refusals import Refused

SIZE_MAX: Final = 1 << 20
"""Bytes of a Dockerfile. A long real one has about 20,000."""
_VARIABLES_MAX: Final = 64
"""In one word; they may stand within each other."""
LINE_MAX: Final = 60_000
"""Bytes of an instruction: the engine's reader stops at 65,535."""
WORDS: Final = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})  # fmt: skip
OTHERWISE: Final = "build it with `ds01 image build`"
_DIRECTIVE: Final = re.compile(r"#[ \t]*([a-zA-Z][a-zA-Z0-9]*)[ \t]*=[ \t]*(.+)")
"""Of a line without spaces at its ends."""
_FLAG: Final = re.compile(r"--([a-z][a-z-]*)(?:=([^\s\"'\\`]*))?(?:[ \t]+|$)")
_HEREDOC: Final = re.compile(r"(?:^|\s)[0-9]*<<-?[^\s<]")
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\x80-\x9f]")
_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EMBEDDED: Final = re.compile(r"[\"'\\`$]")
_INSIDE: Final = frozenset({"FROM", "COPY", "ADD", "ARG", "ONBUILD"})
"""Instructions whose every character is read here."""
_FLAGS: Final[dict[str, frozenset[str]]] = {
    "FROM": frozenset({"platform"}), "COPY": frozenset({"from", "chown"}), "ADD": frozenset({"chown"}),
    "RUN": frozenset(), "ARG": frozenset(), "ONBUILD": frozenset(),
}  # fmt: skip

Arguments = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: `flags` only where they are read here, else they are part of `rest`."""

    number: int
    """Of its first line, from 1."""
    word: str
    flags: tuple[tuple[str, str], ...]
    rest: str

    def text(self) -> str:
        """The instruction on one line."""
        flags = "".join(f"--{name}={value} " for name, value in self.flags)
        return f"{self.word} {flags}{self.rest}"

    def refuse(self, reason: str, fix: str, rule: str = "build.dockerfile") -> NoReturn:
        """Refuse the build because of this instruction."""
        raise Refused(403, f"Dockerfile, line {self.number}: {reason}", rule, fix)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The instructions of a file, and the character that continues its lines."""

    instructions: tuple[Instruction, ...]
    escape: str


def read(content: bytes) -> Dockerfile:
    """Read a Dockerfile. Raises Refused."""
    if len(content) > SIZE_MAX:
        raise Refused(403, f"the Dockerfile has more than {SIZE_MAX} bytes", "build.dockerfile", "move data to files")
    try:
        text = content.decode("utf-8-sig", "strict")
    except UnicodeDecodeError as error:
        raise Refused(400, "the Dockerfile is not UTF-8", "build.dockerfile", "save it as UTF-8") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    escape = _escape(lines)
    return Dockerfile(tuple(_instructions(lines, escape)), escape)


def words_of(instruction: Instruction) -> list[str]:
    """The sources and the target of a COPY or ADD."""
    if instruction.rest.startswith("["):
        try:
            found = json.loads(instruction.rest)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(word, str) for word in found):
            return found
    return instruction.rest.split()


def judge(instruction: Instruction) -> None:
    """Refuse what reaches further than a build may. FROM and `COPY --from` are judged by whoever resolves images."""
    word, rest = instruction.word, instruction.rest
    if word == "ADD":
        for source in words_of(instruction)[:-1]:
            if "://" in source or source.lower().startswith("git@") or _EMBEDDED.search(source):
                instruction.refuse(f"ADD {source[:80]}: the server fetches nothing for a build, and this may be an "
                                   "address", "COPY files, and RUN curl for addresses", "build.remote")  # fmt: skip
    if word == "ONBUILD":
        inner = _instruction(rest, instruction.number)
        if inner.word in {"FROM", "ONBUILD", "MAINTAINER"} or any(name == "from" for name, _ in inner.flags):
            instruction.refuse(f"ONBUILD {inner.word} of another image cannot be decided now",
                               "write it in the Dockerfile that uses it")  # fmt: skip
        judge(inner)


def judge_trigger(trigger: str, image: str) -> None:
    """Refuse to build on an image whose ONBUILD does what a Dockerfile may not. Raises Refused."""
    why = ""
    try:
        found = read(trigger.encode("utf-8", "replace"))
        if [item.text() for item in found.instructions] != [trigger.strip(" \t")]:
            why = "it is not one plain instruction"
        judge(Instruction(1, "ONBUILD", (), trigger))
    except Refused as refusal:
        why = refusal.reason
    if why:
        raise Refused(403, f"the image {image} has ONBUILD {trigger[:80]!r}: {why}", "build.onbuild",
                      "build from another image")  # fmt: skip


def stage_name(typed: str) -> str | None:
    """The name of a stage in its one spelling, or None."""
    lowered = typed.lower()
    return lowered if _NAME.fullmatch(lowered) else None


def declared(instruction: Instruction) -> Iterator[tuple[str, str | None]]:
    """Yield what an ARG declares: names, and values that are still to be expanded."""
    for word in _shell_words(instruction):
        name, equals, value = word.partition("=")
        if not _VARIABLE.fullmatch(name):
            instruction.refuse(f"ARG {name[:40]}: not the name of a variable", "use letters, digits and _")
        yield name, value if equals else None


def expand(instruction: Instruction, text: str, arguments: Arguments) -> str:
    """Put the values of arguments into a word; what has none is empty, as it is for the engine. Raises Refused."""
    out: list[str] = []
    position, quote, size = 0, "", 0
    if text.count("$") > _VARIABLES_MAX:
        instruction.refuse(f"{text[:80]!r} has more than {_VARIABLES_MAX} variables", "write it out")
    while position < len(text):
        char = text[position]
        position += 1
        if quote and char == quote:
            quote = ""
        elif char in "\"'" and not quote:
            quote = char
        elif char == "$" and quote != "'":
            value, position = _variable(instruction, text, position, arguments)
            out.append(value)
            size += len(value)
            if size > LINE_MAX:
                # Arguments of arguments grow without end.
                instruction.refuse(f"{text[:80]!r} becomes more than {LINE_MAX} characters", "write it shorter")
        elif char in "\\`":
            instruction.refuse(f"{text[:80]!r}: an escape in a name cannot be decided", "write the name as it is")
        else:
            out.append(char)
    if quote:
        instruction.refuse(f"{text[:80]!r}: a quote is not closed", "close it")
    return "".join(out)


def _variable(instruction: Instruction, text: str, position: int, arguments: Arguments) -> tuple[str, int]:
    """Return the value of the variable behind a $, and where the text goes on."""
    if not text.startswith("{", position):
        match = _VARIABLE.match(text, position)
        if match is None:
            instruction.refuse(f"{text[:80]!r}: a lone $ cannot be decided", "write ${NAME} with an ARG before FROM")
        return arguments.get(match[0], ""), match.end()
    end, depth = position + 1, 1
    while depth:
        if end >= len(text):
            instruction.refuse(f"{text[:80]!r}: a brace is not closed", "close it")
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    inner = text[position + 1 : end - 1]
    match = _VARIABLE.match(inner)
    operator = inner[match.end() :] if match else "?"
    if match is None or not re.match(r"(:?[-+]|$)", operator):
        instruction.refuse(f"${{{inner[:60]}}} cannot be decided", "use ${NAME} or ${NAME:-value}")
    name, value = match[0], arguments.get(match[0])
    if not operator:
        return value or "", end
    there = bool(value) if operator.startswith(":") else value is not None
    other = operator.lstrip(":")[1:]
    if "-" in operator[:2]:
        return (arguments[name] if there else expand(instruction, other, arguments)), end
    return (expand(instruction, other, arguments) if there else ""), end


def _escape(lines: list[str]) -> str:
    escape = "\\"
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip(" \t"))
        if match is None:
            break
        if match[1].lower() == "escape":
            escape = match[2]
    if escape not in {"\\", "`"}:
        raise Refused(400, f"Dockerfile: escape={escape[:20]}: expected \\ or `", "build.dockerfile", "write one")
    return escape


def _instructions(lines: list[str], escape: str) -> Iterator[Instruction]:
    number = 0
    while number < len(lines):
        start, number = number, number + 1
        first = lines[start].lstrip()
        if not first or first.startswith("#"):
            continue
        joined, more = _without_escape(first, escape, start)
        while more and number < len(lines):
            line, number = lines[number], number + 1
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            line, more = _without_escape(line, escape, number - 1)
            joined += line
        if not joined.strip():
            continue
        yield _instruction(joined, start + 1, escape)


def _without_escape(line: str, escape: str, index: int) -> tuple[str, bool]:
    """Return a line without the character that continues it, and whether it was there."""
    bare = line.rstrip(" \t")
    if not bare.endswith(escape):
        return line, False
    if bare.endswith(escape * 2):
        raise Refused(403, f"Dockerfile, line {index + 1}: it ends in {escape * 2}, which readers take differently",
                      "build.dockerfile", "end it in something else")  # fmt: skip
    return bare[:-1], True


def _instruction(line: str, number: int, escape: str = "") -> Instruction:
    line = line.strip()
    parts = re.split(r"[ \t]+", line, maxsplit=1)
    word, rest = parts[0].upper(), parts[1] if len(parts) > 1 else ""
    bare = Instruction(number, word, (), rest)
    if word not in WORDS:
        bare.refuse(f"unknown instruction: {parts[0][:40]}", f"use one of {', '.join(sorted(WORDS))}")
    if _CONTROL.search(line) or len(line.encode()) > LINE_MAX:
        bare.refuse(f"{word} has control characters, or more than {LINE_MAX} bytes", "move it to a script and COPY it")
    if not rest:
        bare.refuse(f"{word} requires an argument", "write one")
    looked = rest if word in _INSIDE else rest[:1]
    if any(char.isspace() and char not in " \t" for char in looked) or (escape and rest.endswith(escape)):
        bare.refuse(f"{word} has a space that is none, or ends in an escape", "write plain spaces")
    if word in {"RUN", "COPY", "ADD"} and _HEREDOC.search(rest):
        bare.refuse("here-documents need BuildKit, which builds outside everybody's limits",
                           f"put the text into a file and COPY it, or {OTHERWISE}", "build.buildkit")  # fmt: skip
    if word not in _FLAGS:
        return bare
    return _with_flags(bare)


def _with_flags(bare: Instruction) -> Instruction:
    flags: dict[str, str] = {}
    rest = bare.rest
    while rest.startswith("--"):
        match = _FLAG.match(rest)
        if match is None:
            bare.refuse(f"{bare.word} {rest[:60]!r}: cannot be decided", "write flags without quotes, as --name=value")
        name, value = match[1], match[2]
        if name not in _FLAGS[bare.word]:
            bare.refuse(f"{bare.word} --{name} needs BuildKit, which builds outside everybody's limits", OTHERWISE,
                        "build.buildkit")  # fmt: skip
        if not value or name in flags:
            bare.refuse(f"{bare.word} --{name}: expected one value", f"write --{name}=VALUE once")
        flags[name] = value
        rest = rest[match.end() :]
    if not rest:
        bare.refuse(f"{bare.word} requires an argument", "write one")
    return Instruction(bare.number, bare.word, tuple(flags.items()), rest)


def _shell_words(instruction: Instruction) -> Iterator[str]:
    """Split at spaces outside quotes; the quotes stay."""
    word, quote = "", ""
    for char in instruction.rest + " ":
        if char in " \t" and not quote:
            if word:
                yield word
            word = ""
            continue
        if char in "\"'":
            quote = "" if char == quote else quote or char
        word += char
    if quote:
        instruction.refuse("a quote is not closed", "close it")
