"""Reading YAML without guessing."""

from __future__ import annotations

import math

import pytest

from ds01.policy import PolicyError
from ds01.policy.source import MAX_BYTES, parse_yaml, plain_scalar, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-3", -3),
        ("1.50", 1.5),
        (".5", 0.5),
        ("1.0e+3", 1000.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        # YAML 1.1 would make something else of these.
        ("yes", "yes"),
        ("off", "off"),
        ("010", "010"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-12-01", "2026-12-01"),
        ("1e3", "1e3"),
        ("+5", "+5"),
        ("9" * 40, "9" * 40),
    ],
)
def test_plain_words_keep_their_text_unless_they_are_plain_values(text, value):
    assert plain_scalar(text) == value
    assert type(plain_scalar(text)) is type(value)


def test_not_a_number_is_read_as_such():
    assert math.isnan(plain_scalar(".NaN"))


def test_quotes_make_text():
    assert parse_yaml("a: '12'\nb: \"true\"\nc: |\n  x\n  y\n", "f").data == {"a": "12", "b": "true", "c": "x\ny\n"}


def test_every_value_has_its_line():
    document = parse_yaml("a:\n  - 1\n  - b: 2\n\nc: 3\n", "f")
    assert document.where(("a", 1, "b")) == "f:3"
    assert document.where(("c",)) == "f:5"
    assert document.where(("a", 1, "missing")) == "f:3"


def test_anchors_and_merges_work_and_own_keys_win():
    document = parse_yaml("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x\n", "f")
    assert document.data["b"] == {"p": 1, "q": 3}
    assert document.data["c"] == {"p": 1, "q": 2}
    assert not document.problems


@pytest.mark.parametrize(
    ("text", "expected", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "each key once", 3),
        ("a: *x\n", "an alias of an anchor above", 1),
        ("a: &x [*x]\n", "an alias of an anchor above", 1),
        ("a: !!python/name:os.system x\n", "a value without a YAML tag", 1),
        ("a: !vault x\n", "a value without a YAML tag", 1),
        ('a: "\\u202e"\n', "text without control characters", 1),
        ('"\\a": 1\n', "a key without control characters", 1),
        ("? [a]\n: 1\n", "a plain word as key", 1),
        ("a: {<<: 3}\n", "a mapping after <<", 1),
        ("a: 1\n---\nb: 2\n", "one YAML document in the file", 2),
    ],
)
def test_lesser_mistakes_are_found_with_their_line(text, expected, line):
    (problem,) = parse_yaml(text, "f").problems
    assert (problem.expected, problem.where) == (expected, f"f:{line}")


@pytest.mark.parametrize(
    ("text", "fix", "line"),
    [
        ("a:\n\tb: 1\n", "indent with spaces; YAML does not allow tabs", 2),
        ("a: [1, 2\nb: 3\n", "check indentation, colons and quotes on this line and the one before", 2),
        ("a: 'x\n", "check indentation, colons and quotes on this line and the one before", 2),
        ("a: 1\n  b: 2\n", "check indentation, colons and quotes on this line and the one before", 2),
        ("a: b: c\n", "check indentation, colons and quotes on this line and the one before", 1),
    ],
)
def test_syntax_errors_name_line_and_fix(text, fix, line):
    with pytest.raises(PolicyError) as caught:
        parse_yaml(text, "f")
    (problem,) = caught.value.problems
    assert (problem.fix, problem.where) == (fix, f"f:{line}")
    assert problem.expected.startswith("valid YAML")


def test_control_characters_in_the_file_name_the_line():
    with pytest.raises(PolicyError, match="look at line 2"):
        parse_yaml("a: 1\nb: \x07\n", "f")


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 100_000,
        "b0: &b0 [x, x]\n" + "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 10)}]\n" for i in range(1, 9)),
        "a: [" + "1," * 250_000 + "]",
    ],
    ids=["nesting", "alias bomb", "many values"],
)
def test_files_that_are_no_policies_are_stopped_early(text):
    with pytest.raises(PolicyError, match="a policy of ordinary size"):
        parse_yaml(text, "f")


def test_unreadable_files(tmp_path):
    file = tmp_path / "p.yaml"
    for content, expected in ((b"\xff\xfea", "text in UTF-8"), (b"x" * (MAX_BYTES + 1), "a file of at most 4 MiB")):
        file.write_bytes(content)
        with pytest.raises(PolicyError, match=expected):
            read_yaml(file)
    for path in (tmp_path / "missing", tmp_path, file / "below"):
        with pytest.raises(PolicyError, match="a readable file"):
            read_yaml(path)


def test_a_byte_order_mark_and_windows_newlines_are_fine(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml(file).data == {"a": 1, "b": 2}
