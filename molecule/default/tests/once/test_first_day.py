"""The class exercise on the deployed host: never logged in, and then a container with a GPU, opened with VS Code."""

from __future__ import annotations

import json
import re

import pytest

from lab.terminal import Terminal
from tests.integration.gateway.commands_host import IMAGE, SHELL

_PEOPLE = ["alice", "h.baker@example.org"]


@pytest.fixture
def engine(host):
    """Run docker past the gateway, on a host that has an image with a shell."""
    host.check_output("export DOCKER_CONTEXT=ds01-engine; %s" % IMAGE)  # noqa: UP031 - its braces are the shell's
    return lambda arguments: host.check_output(f"docker --context ds01-engine {arguments}")


@pytest.fixture(params=_PEOPLE)
def person(request, host, engine):
    """Somebody with an empty home, who leaves nothing behind."""
    user = request.param
    clean = "cd; docker ps -aq | xargs -r docker rm -f; docker rmi -f birds; find . -mindepth 1 -delete"
    host.run("su --login %s --command %s", user, clean)
    yield user
    host.run("su --login %s --command %s", user, clean)
    engine(f"rmi {SHELL}")


def test_never_logged_in_to_a_container_with_a_gpu_and_hints_for_vscode(host, person, engine):
    home = host.user(person).home
    one = Terminal("docker", "exec", "-it", "-e", "TERM=xterm", host.backend.get_hostname(), "su", "--login", person)
    one.see(r"\$ ")
    one.type(f"user-setup --base {SHELL}\n")
    for question, answer in (
        (r"Name of your project \[first\]: ", "birds"),
        (r"1/6 ssh: [\s\S]*?\[Y/n\]: ", ""),
        (r"Make a key here[\s\S]*?\[Y/n\]: ", ""),
        (r"2/6 shell: [\s\S]*?\[Y/n\]: ", ""),
        (r"3/6 project: [\s\S]*?\[Y/n\]: ", ""),
        (r"What is it about\?: ", "Songs of birds"),
        (r"Your name in commits \[.*\]: ", "A Person"),
        (r"Your address in commits.*: ", "person@example.org"),
        (r"4/6 image: [\s\S]*?\[Y/n\]: ", ""),
        (r"2/4 JupyterLab\? \[Y/n\]: ", "n"),
        (r"3/4 Data science .*\[Y/n\]: ", "n"),
        (r"4/4 Use case .*\[custom\]: ", ""),
        (r"5/6 container: [\s\S]*?\[Y/n\]: ", ""),
        (r"birds runs: `container attach birds`", None),
        (r"6/6 editor: [\s\S]*?\[Y/n\]: ", ""),
        (r"Write birds/.devcontainer/devcontainer.json\? \[Y/n\]: ", ""),
        (r"code --remote ssh-remote\+lab " + re.escape(f"{home}/workspace/birds"), None),
        (r"\$ ", None),
    ):
        one.see(question)
        if answer is not None:
            one.type(f"{answer}\n")
    one.type("container attach birds\n")
    one.see(re.escape(f"[birds] {person}@birds:/workspace$ "))
    one.type("echo /dev/nvidia[0-9]*; id -un\n")
    one.see(r"\r\n/dev/nvidia\d\r\n" + re.escape(person) + r"\r\n.*birds:/workspace\$ ")
    one.type("exit\n")
    one.see(r"exit\r\n[^\r\n]*\$ ")
    one.type("exit\n")
    assert one.close() == 0

    # What the engine, the ledger and the file system say of it.
    uid = host.user(person).uid
    found = json.loads(engine(f"inspect birds._.{uid}"))[0]
    assert found["State"]["Running"]
    assert found["Config"]["User"] in {"", str(uid), f"{uid}:{host.user(person).gid}", "0:0", "root"}
    held = json.loads(host.check_output("su --login %s --command 'ds01 status --json'", person))
    assert re.search(r'"(container|name)": "birds', json.dumps(held)), held
    said = host.check_output("su --login %s --command 'ds01 dashboard --once'", person)
    assert re.search(r"^\*\S+ +\S+ +\S+ +birds ", said, re.MULTILINE), said
    assert host.check_output("find %s ! -user %s", home, person) == ""


@pytest.mark.parametrize("closed", ["", "</dev/null", "<&-", "<&- 2>&-"])
def test_limits_are_said_wherever_they_are_asked_for(host, closed):
    said = host.run(
        "su --login alice --command %s", f"cd /; exec env -u TERM -u HOME LC_ALL=C COLUMNS=80 check-limits {closed}"
    )
    assert (said.rc, said.stderr, "\x1b" in said.stdout) == (0, "", False)
    assert "max_containers_per_user" in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80
