"""People files, also as spreadsheets write them."""

from __future__ import annotations

from datetime import date

import pytest

from ds01.policy import load_policy
from ds01.policy.people import read_people

from .conftest import BASE, NOW

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYK alice@laptop"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYKEYA"


@pytest.fixture
def read(tmp_path):
    def people(content: str | bytes, name: str = "p.csv"):
        (tmp_path / "keys").mkdir(exist_ok=True)
        (tmp_path / "keys" / "bob.pub").write_text(f"# two keys\n{KEY}\n{OTHER}\n", encoding="utf-8")
        (tmp_path / "private").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n", encoding="utf-8")
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return read_people(tmp_path / name, name=name)

    return people


def test_a_plain_file(read):
    people, problems = read(
        "login,name,group,keys,expires,uid,shell\n"
        f"alice,Alice Ünal,student,{KEY};{OTHER},2027-03-31,5001,/bin/zsh\n"
        "# nobody\n"
        "bob,,,keys/bob.pub,,,\n"
        "h.baker@example.org,H. Baker,researcher,,,,\n"
    )
    assert problems == []
    alice, bob, baker = people
    assert alice[:7] == ("alice", "Alice Ünal", "student", (KEY, OTHER), date(2027, 3, 31), 5001, "/bin/zsh")
    assert (bob.keys, bob.group, bob.where) == ((KEY, OTHER), None, "p.csv:4")
    assert baker.login == "h.baker@example.org"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbflogin;name;group\r\nalice;Alice;student\r\n",
        b"login\tname\tgroup\nalice\tAlice\tstudent\n",
        b"\n\nLogin , Name,GROUP\n\n alice , Alice,student ,,,\n,,\n\n",
        b'"login","name","group"\n"alice","Alice","student"',
        b"username,full name,group,\nalice,Alice,student,\n",
        b"group,name,login\nstudent,Alice,alice\n",
    ],
    ids=["excel", "tabs", "blanks", "quotes", "other headings", "other order"],
)
def test_spreadsheets(read, content):
    people, problems = read(content)
    assert problems == []
    assert [person[:3] for person in people] == [("alice", "Alice", "student")]


def test_yaml(read):
    text = (
        f"people:\n- login: alice\n  name: Alice\n  keys: [{KEY}]\n  expires: 2027-03-31\n- {{login: bob, uid: 5002}}\n"
    )
    people, problems = read(text, "p.yaml")
    assert problems == []
    assert [(person.login, person.expires, person.uid, person.where) for person in people] == [
        ("alice", date(2027, 3, 31), None, "p.yaml:2"),
        ("bob", None, 5002, "p.yaml:6"),
    ]
    assert read("- login: alice\n", "q.yaml")[0][0].login == "alice"


def test_all_errors_at_once_with_their_lines(read):
    people, problems = read(
        "login,name,keys,expires,uid,shell\n"
        "ok,Fine,,,,\n"
        "bad name,,,,,\n"
        "b,,not-a-key or,,,\n"
        "c,,missing.pub,,,\n"
        "d,,private,,,\n"
        "e,,,31.03.2027,,\n"
        "f,,,,12,\n"
        "g,,,,,bash\n"
        "i,a:b,,,,\n"
        "root,,,,,\n"
        ",Nobody,,,,\n"
        "j,x,,,,,,more\n"
    )
    assert [person.login for person in people] == ["ok"]
    assert [(problem.path, problem.where) for problem in problems] == [
        (path, f"p.csv:{line}")
        for path, line in (
            ("p.csv", 13),
            ("p.csv: bad name.login", 3),
            ("p.csv: b.keys", 4),
            ("p.csv: c.keys", 5),
            ("p.csv: d.keys", 6),
            ("p.csv: e.expires", 7),
            ("p.csv: f.uid", 8),
            ("p.csv: g.shell", 9),
            ("p.csv: i.name", 10),
            ("p.csv: root.login", 11),
            ("p.csv.login", 12),
        )
    ]
    assert all(problem.severity == "error" and problem.fix for problem in problems)


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        ("name,group\nAlice,student\n", "start the file with a line like login,name,group,keys,expires"),
        ("login,grup\nalice,student\n", "did you mean group?"),
        ("login,login\na,b\n", "remove one column"),
        ('login,name\nalice,"Alice\n', "check the quotes on this line"),
        (b"login\n\xff\n", "save the file as UTF-8 in the editor"),
    ],
)
def test_wrong_files(read, content, fix):
    assert fix in {problem.fix for problem in read(content)[1]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("5", "a list of people"),
        ("people: 5", "a list of people"),
        ("- alice", "a person with login"),
        ("- {login: a, nmae: b}", "a key: login, name, group, keys, expires, uid, shell"),
        ("- {login: [a]}", "a login name"),
        ("- {login: a, keys: 5}", "SSH public keys or names of key files"),
        ("- {login: a, keys: [5]}", "SSH public keys or names of key files"),
        ("- {login: a, expires: 5}", 'a UTC date like "2027-03-31"'),
        ("- {login: ³, uid: ³}", "a whole number, at least 0"),
    ],
)
def test_wrong_yaml(read, content, expected):
    assert expected in {problem.expected for problem in read(content, "p.yaml")[1]}


def test_an_empty_file_is_said(read):
    for content in ("", "login,name\n"):
        assert [problem.severity for problem in read(content)[1]] == ["warning"]


TEXT = BASE + "people_files: [people/*.csv]\n"


def test_people_join_their_groups(load):
    loaded = load(TEXT, people__a_dot_csv="login,group\nalice,student\ncarol,student\nzoe,\n")
    assert loaded.policy.groups["student"].members == ("alice", "carol")
    assert [person.login for person in loaded.people] == ["alice", "carol", "zoe"]
    assert loaded.warnings == ()


def test_people_of_unknown_groups_are_errors(findings):
    (problem,) = findings(TEXT, people__a_dot_csv="login,group\ncarol,studen\n")
    assert (problem.path, problem.fix, problem.where) == (
        "people/a.csv: carol.group",
        "did you mean student?",
        "people/a.csv:2",
    )


def test_a_person_in_two_groups_by_two_files_is_refused(findings):
    text = TEXT.replace("groups: {", "groups: {researcher: {members: [carol]}, ")
    (problem,) = findings(text, people__a_dot_csv="login,group\ncarol,student\n")
    assert problem.where == "people/a.csv:2"


def test_a_pattern_without_files_is_a_warning(findings):
    (problem,) = findings(TEXT)
    assert (problem.path, problem.severity) == ("people_files[0]", "warning")


def test_a_person_twice_is_fine_only_when_nothing_differs(findings):
    same = "login,group\ncarol,student\n"
    assert findings(TEXT, people__a_dot_csv=same, people__b_dot_csv=same) == []
    (problem,) = findings(TEXT, people__a_dot_csv=same, people__b_dot_csv=same.replace("student", ""))
    assert (problem.severity, problem.where) == ("error", "people/b.csv:2")


def test_an_extra_file_stands_for_the_one_of_its_name(lab, tmp_path):
    path = lab(
        TEXT,
        people__s_dot_csv="login,group,expires\ncarol,student,2027-01-01\n",
        new__s_dot_csv="login,group\ncarol,student\n",
    )
    loaded = load_policy(path, extra_people=[tmp_path / "new" / "s.csv"], now=NOW)
    assert [(person.login, person.expires) for person in loaded.people] == [("carol", None)]
