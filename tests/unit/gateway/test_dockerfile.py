"""Dockerfiles: whatever is accepted, the engine gets one line per instruction, and every image by its id."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.gateway import dockerfile, recipe
from ds01.gateway.recipe import Wanted
from ds01.gateway.refusals import Refused

IDENTITY = "sha256:" + "1" * 64
pieces = st.lists(
    st.sampled_from([
        "FROM", "from", "COPY", "ADD", "RUN", "ARG", "ONBUILD", "LABEL", " ", "\t", "\n", "\r\n", "\\\n", "\\",
        "`", "`\n", "# escape=`\n", "# comment\n",
        "AS", "--from=", "--from", "--platform=$P ", "--mount=x ", "base", "other", "ds01-7/x", "0", "$A", "${A:-x}",
        "A=", '"', "'", "<<EOF", "EOF", "<<-", "http://x", "\u00a0", "\u2028", "\x0b", "\0", "\ufeff",
        '["a", "b"]', "=", "scratch", "é",
    ]),
    max_size=25,
)  # fmt: skip


def written(text: str, **given_arguments: str) -> tuple[str, list[Wanted]]:
    """What the engine would get, and which images were looked at."""
    plan = recipe.plan(dockerfile.read(text.encode("utf-8", "surrogatepass")), given_arguments)
    return plan.write(dict.fromkeys(plan.wanted, IDENTITY), "ds01.uid=7").decode(), plan.wanted


def engine_reads(text: str) -> list[str]:
    """The lines of a file as the engine's own reader joins them: its rules, by other means than ours."""
    escape = "`" if text.startswith("# escape=`\n") else "\\"
    lines = []
    current = ""
    for line in text.split("\n"):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        match = re.search(rf"(?:^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*$", line)
        if match:
            current += line.rstrip(" \t")[:-1]
            continue
        lines.append(current + line)
        current = ""
    return [*lines, current] if current else lines


@given(pieces)
def test_the_engine_reads_nothing_but_what_was_judged(parts: list[str]):
    try:
        text, wanted = written("FROM base\n" + "".join(parts))
    except Refused:
        return
    lines = engine_reads(text)
    assert len(lines) == len([line for line in text.split("\n") if line.strip() and not line.startswith("#")])
    stages: list[str] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        assert word in dockerfile.WORDS
        if word == "FROM":
            source = rest.split()[0]
            assert source in {IDENTITY, "scratch", *stages}, line
            stages.append(rest.split()[2] if " AS " in rest else "")
        if word == "COPY" and "--from" in rest:
            assert re.match(rf"(?:--from=(?:{IDENTITY}|[0-9]+) )?(?:--chown=\S+ )?[^-]", rest), line
        if word in {"RUN", "COPY", "ADD"}:
            assert not re.search(r"(^|\s)\d*<<-?[^\s<]", rest)
        assert not re.search("[\0\r\x0b\ufeff]", line)
    assert all(item.name for item in wanted)


@given(pieces)
def test_reading_what_was_written_changes_nothing(parts: list[str]):
    try:
        once = written("FROM base\n" + "".join(parts))[0]
    except Refused:
        return
    again = written(once)[0]
    # A line was put behind every FROM, and a second one now.
    assert again.replace("LABEL ds01.uid=7\nLABEL ds01.uid=7\n", "LABEL ds01.uid=7\n") == once


@pytest.mark.parametrize(("text", "arguments", "images"), [
    ("ARG A=x\nFROM $A", {}, ["x"]), ("ARG A=x\nFROM $A", {"A": "y"}, ["y"]), ("ARG A\nFROM ${A:-z}", {}, ["z"]),
    ("ARG A=1\nARG B=x:${A}\nFROM ${B}-gpu", {}, ["x:1-gpu"]), ("ARG A=x\nFROM ${A:+y}", {}, ["y"]),
    ("FROM a AS one\nFROM one\nFROM b\nCOPY --from=ONE x y\nCOPY --from=c x y", {}, ["a", "b", "c"]),
    ("ARG A='x y'\nFROM base", {}, ["base"]), ("FROM scratch", {}, []), ("FROM a\nARG A=b\nFROM c$A", {}, ["a", "c"]),
])  # fmt: skip
def test_which_images_a_dockerfile_needs(text: str, arguments: dict[str, str], images: list[str]):
    assert [wanted.name for wanted in written(text, **arguments)[1]] == images


@pytest.mark.parametrize(("text", "reason"), [
    ("", "no FROM"), ("RUN x\nFROM y", "not FROM"), ("FROM $A", "is empty"), ("FROM a b", "FROM IMAGE"),
    ("FROM ${A##x}", "cannot be decided"), ("FROM a\\b",
        "escape"), ("FROM 'a", "not closed"), ("FROM a\nNOPE x", "unknown"),
    ("FROM a\nCOPY --from=$B x y", "cannot be decided"), ("FROM a\nCOPY --from=3 x y", "no such stage"),
    ("FROM a\nCOPY --from=0 x y", "own stage"), ("FROM a\nRUN --mount=type=secret,id=x y", "needs BuildKit"),
    ("FROM a\nRUN --network=host x", "needs BuildKit"), ("FROM a\nCOPY --link x y", "needs BuildKit"),
    ("FROM a\nRUN cat <<EOF\nx\nEOF", "here-documents"), ("FROM a\nADD git@host:x y", "fetches nothing"),
    ('FROM a\nADD ["HTTPS://x", "y"]', "fetches nothing"), ("FROM a\nONBUILD ONBUILD RUN x", "ONBUILD"),
    ("FROM a\nONBUILD ADD http://x y", "fetches nothing"), ("# escape=x\nFROM a", "escape="),
    ("FROM a\nRUN a\\\\", "differently"),
    ("FROM a\nRUN " + "x" * 70_000, "bytes"), ("FROM a AS scratch", "each name once"),
    ("FROM a AS x\nFROM b AS X", "each name"),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_its_line(text: str, reason: str):
    with pytest.raises(Refused, match=re.escape(reason)) as caught:
        written(text)
    assert caught.value.fix


@pytest.mark.parametrize("trigger", ["RUN x", "COPY . /app", "ADD a.tar /", "ENV A=b"])
def test_ordinary_triggers_are_fine(trigger: str):
    dockerfile.judge_trigger(trigger, "x")


@pytest.mark.parametrize("trigger", [
    "COPY --from=ds01-7/x / /", "ADD http://x /", "FROM x", "RUN a\nFROM b", "RUN --mount=from=x y",
    "copy --from=x / /", "RUN x \\", "# escape=`\nRUN x", "  ADD 'http://x' /", "RUN <<E", "",
])  # fmt: skip
def test_other_triggers_are_not(trigger: str):
    with pytest.raises(Refused, match="ONBUILD"):
        dockerfile.judge_trigger(trigger, "x")
