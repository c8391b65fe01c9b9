"""What the documentation tells people to type exists, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import product, takewhile
from pathlib import Path

import click
import pytest
import yaml

from ds01.cli.commands import FOR_ADMINISTRATORS
from ds01.cli.main import cli
from ds01.cli.tree import entries
from ds01.host.names import THIN

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for part in ("docs", "lab", "roles") for page in (ROOT / part).rglob("*.md"))]
)
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SEPARATORS = {"&&", "||", "|", ";", "(", ")"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def words(line: str) -> Iterator[list[str]]:
    """The commands in a line of shell, each as its words without `sudo`, variables, redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _SEPARATORS:
            command.append(word)
            continue
        while command and (command[0] == "sudo" or re.match(r"[A-Z_]+=", command[0])):
            del command[0]
        if command:
            yield command
        command = []


def commands(text: str, program: str) -> Iterator[list[str]]:
    """What is said about a program, as the words after its name."""
    for _, language, block in _FENCE.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                # What a heredoc holds is no command; neither is it one of ours.
                if program in line:
                    for command in words(line):
                        if command[0] == program:
                            yield command[1:]
    for said in _INLINE.findall(prose(text)):
        # `ds01 gpu list|show` is two, and [--option] one that may be left out.
        found = re.match(rf"(?:sudo )?{program} (?P<rest>.+)", said)
        if found:
            rest = re.sub(r"[\[\]]", "", found["rest"])
            rest = re.split(r" (?:&&|\||;|>) ", rest)[0]
            yield from map(list, product(*(word.split("|") for word in shlex.split(rest))))


def check(arguments: list[str]) -> None:
    """Raise click.UsageError for a command, option, value or number of arguments that does not exist."""
    command: click.Command = cli
    # Commands remember the names of their help option, for other tests, too.
    context = click.Context(cli, info_name="ds01", **cli.context_settings)
    # What stands for many things, and where output goes to, ends what can be looked at.
    arguments = list(takewhile(lambda word: word not in {"...", ">"} and not word.startswith("<"), arguments))
    while True:
        values, rest, _ = command.make_parser(context).parse_args(list(arguments))
        for parameter in command.params:
            if isinstance(parameter.type, click.Choice) and isinstance(values.get(str(parameter.name)), str):
                parameter.type_cast_value(context, values[str(parameter.name)])
        if not isinstance(command, click.Group):
            if rest:
                raise click.UsageError(f"too many arguments: {rest}")
            return
        if not rest:
            return
        following = command.get_command(context, rest[0])
        if following is None:
            raise click.UsageError(f"no such command: {rest[0]}")
        context = click.Context(following, info_name=rest[0], parent=context)
        command, arguments = following, rest[1:]


def faults(text: str) -> list[str]:
    found = []
    for program, behind in {"ds01": (), **THIN}.items():
        for arguments in commands(text, program):
            try:
                check([*behind, *arguments])
            except click.UsageError as error:
                found.append(f"{program} {shlex.join(arguments)}: {error.message}")
    return found


def test_every_command_of_ours_exists_with_these_options():
    assert {page: found for page, text in TEXTS.items() if (found := faults(text))} == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`ds01 gpu nothing`", "no such command"),
        ("`ds01 gpu list|nothing`", "no such command"),
        ("`container nothing`", "no such command"),
        ("```sh\ncontainer-deploy a b --nothing\n```", "No such option"),
        ("`sudo ds01 gpu list --nothing`", "No such option"),
        ("`ds01 enforce slices [--nothing]`", "No such option"),
        ("`ds01 gpu drain 0:1 0:2`", "too many arguments"),
        ("`ds01 events --type nothing`", "'nothing' is not one of"),
        ("```sh\nA=1 sudo ds01 gpu list --json && ds01 nothing  # why\n```", "no such command"),
        ("```sh\nds01 gpu reserve --user alice \\\n  --nothing 8h\n```", "No such option"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str, fault: str):
    [found] = faults(text)
    assert fault in found


def test_every_command_of_ours_in_messages_exists():
    for path in (ROOT / "src").rglob("*.py"):
        for said in re.findall(r"`ds01 [a-z][^`{}\n]*`", path.read_text(encoding="utf-8")):
            assert faults(said) == [], (named(path), said)


def test_every_json_that_members_get_is_in_the_list_of_keys():
    page = TEXTS["docs/knowing.md"].partition("## For programs")[2]
    cells = [row.replace("\\|", "/").split(" | ")[0] for row in page.splitlines() if row.startswith("| `")]
    listed = {
        (*THIN.get(words[0], ()), *words[1:])
        for cell in cells if "--json" in cell
        for said in _INLINE.findall(cell)
        if (parts := re.sub(r" ?--.*", "", said).split())
        for words in product(*(part.split("/") for part in parts))
    }  # fmt: skip
    members = [
        entry for entry in entries()
        if entry.words and not isinstance(entry.command, click.Group) and entry.words[0] not in FOR_ADMINISTRATORS
    ]  # fmt: skip
    with_json = {entry.words for entry in members if any("--json" in one.opts for one in entry.command.params)}
    assert {words for words in with_json if not listed & {words, words[:1]}} == set()
    assert listed <= {entry.words for entry in entries()}


def test_every_make_target_and_variable_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    for page, text in TEXTS.items():
        for word in [word for arguments in commands(text, "make") for word in arguments]:
            name, is_variable, _ = word.partition("=")
            assert f"$({name}" in makefile if is_variable else word in targets, (page, word)


def test_every_playbook_and_tag_exists():
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text(encoding="utf-8"))
    roles = [role for play in plays for role in play.get("roles", [])]
    tags = {tag for role in roles for tag in role["tags"]} | {"verify"}
    for page, text in TEXTS.items():
        for arguments in commands(text, "ansible-playbook"):
            for before, word in zip(["", *arguments], arguments, strict=False):
                assert not word.endswith(".yml") or (ROOT / word).is_file(), (page, arguments)
                assert before != "--tags" or set(word.split(",")) <= tags, (page, arguments)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The places in the repository that a page links to, with the heading there."""
    for link in _LINK.findall(prose(page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if not re.match(r"[a-z]+:", path):
            yield (page.parent / path).resolve() if path else page, anchor


def test_every_relative_link_leads_somewhere():
    for page in PAGES:
        for target, anchor in links(page):
            assert target.exists(), (named(page), target)
            assert not anchor or anchor in anchors(target), (named(page), anchor)


def test_every_page_can_be_reached_from_the_first_one():
    seen: set[Path] = set()
    left = [ROOT / "README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        pages = [target / "README.md" if target.is_dir() else target for target, _ in links(page)]
        left += [target for target in pages if target.suffix == ".md" and target not in seen]
    assert sorted(named(page) for page in PAGES if page not in seen and page.parts[-3] != "roles") == []


def tree(command: click.Command, path: str = "ds01") -> Iterator[tuple[str, click.Command, int]]:
    """Each command with its path and the length of the longest name beside it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        names = command.list_commands(context)
        for name in names:
            found = command.get_command(context, name)
            assert found is not None
            yield f"{path} {name}", found, max(map(len, names))
            yield from tree(found, f"{path} {name}")


def test_every_summary_is_a_whole_sentence_on_a_terminal_of_80_columns():
    # Two columns stay free on the right, six are around the names.
    said = {path: command.get_short_help_str(80 - 2 - 6 - longest) for path, command, longest in tree(cli)}
    assert {path: text for path, text in said.items() if not re.fullmatch(r"[A-Z].*[^.]\.", text)} == {}


def test_every_option_is_explained():
    options = [(path, one) for path, command, _ in tree(cli) for one in command.params if isinstance(one, click.Option)]
    assert [f"{path} {one.opts[0]}" for path, one in options if not one.help] == []
