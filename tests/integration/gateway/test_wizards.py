"""From the first login to a running container, typed at a real terminal behind the gateway; and from there on."""

from __future__ import annotations

import json
import re

import pytest

from tests.integration.gateway.commands_host import AD, SHELL, Commands, Terminal

QUICK = ["--yes", "--base", SHELL, "--cpu-only"]
WALK = f"user-setup --base {SHELL} --cpu-only"
PIECES = {"src", "data", "models", "notebooks", "results", "README.md", ".git", ".gitignore"}
# Small stands-in for JupyterLab, with what we need of it: its list of servers, and an answer to whoever has the token.
LAB = r"""
import http.server, json, os, sys
if "list" in sys.argv:
    print(open("/tmp/labs").read() if os.path.exists("/tmp/labs") else "[]")
    sys.exit()
port = int(next(word for word in sys.argv if word.startswith("--port=")).partition("=")[2])
token = os.environ["JUPYTER_TOKEN"]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers["Authorization"] == f"token {token}" else 403)
        self.end_headers()
server = http.server.HTTPServer(("0.0.0.0", port), Handler)
with open("/tmp/labs", "w") as file:
    json.dump([{"port": port, "token": token}], file)
server.serve_forever()
"""
PYTHON = f"""
rm -rf /root/py; mkdir -p /root/py; cd /root/py; mkdir -p usr/bin usr/lib
cp -aL /usr/bin/python3 usr/bin/; version=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
cp -a /usr/lib/$version usr/lib/; rm -rf usr/lib/$version/test usr/lib/$version/config-*
for library in $(ldd /usr/bin/python3 usr/lib/$version/lib-dynload/*.so | grep -o ' /lib[^ ]*' | sort -u); do
  mkdir -p .$(dirname $library); cp -Ln $library .$library
done
for module in jupyterlab jupyter_server; do
  mkdir -p usr/lib/$version/$module; touch usr/lib/$version/$module/__init__.py
  cat >usr/lib/$version/$module/__main__.py <<'MODULE'{LAB}MODULE
done
printf 'FROM {SHELL}\\nCOPY . /\\n' >Dockerfile
docker build -q -t ds01-lab/notebooks . >/dev/null
"""


def home(user: str) -> str:
    return f"/srv/people/{user}"


def found(do: Commands, user: str) -> set[str]:
    """The files of somebody's home, without what is in git's own directory."""
    said = do.gateway.host.sh(f"cd {home(user)} && find . -path '*/.git/*' -prune -o -type f -print")
    return {path.removeprefix("./") for path in said.split()}


@pytest.mark.parametrize("user", ["alice", AD])
def test_never_logged_in_to_a_running_container_with_hints_for_vscode(do: Commands, user: str):
    one = Terminal(do.gateway, user, "bash", "--norc")
    one.see(r"\$ ")
    one.type(f"{WALK} --server gpu1.example.org\n")
    said = one.see(r"Name of your project \[first\]: ")
    one.type("birds\n")
    for question, answer in (
        (r"1/6 ssh: .*\r\nDo it now\? \[Y/n\]: ", ""),
        (r"Make a key here, for git and other servers\? \[Y/n\]: ", ""),
        (r"Host lab\r\n    HostName gpu1\.example\.org\r\n    User " + re.escape(user), None),
        (r"2/6 shell: .*\r\nDo it now\? \[Y/n\]: ", ""),
        (r"3/6 project: .*\r\nDo it now\? \[Y/n\]: ", ""),
        (r"What is it about\?: ", "Songs of birds"),
        (r"Your name in commits \[.*\]: ", "A Person"),
        (r"Your address in commits.*: ", "person@example.org"),
        (r"4/6 image: .*\r\nDo it now\? \[Y/n\]: ", ""),
        (r"2/4 JupyterLab\? \[Y/n\]: ", "n"),
        (r"3/4 Data science .*\[Y/n\]: ", "n"),
        (r"4/4 Use case .*\[custom\]: ", ""),
        (r"the image birds is built", None),
        (r"5/6 container: .*\r\nDo it now\? \[Y/n\]: ", ""),
        (r"birds runs: `container attach birds`", None),
        (r"6/6 editor: .*\r\nDo it now\? \[Y/n\]: ", ""),
        (r"Write birds/.devcontainer/devcontainer.json\? \[Y/n\]: ", ""),
        (r"code --remote ssh-remote\+lab " + re.escape(f"{home(user)}/workspace/birds"), None),
        (r"`container attach birds` opens a shell.*\r\n", None),
    ):
        said += one.see(question)
        if answer is not None:
            one.type(f"{answer}\n")
    one.type("container attach birds\n")
    one.see(re.escape(f"[birds] {user}@birds:/workspace$ "))
    one.type("cat README.md; exit\n")
    one.see("Songs of birds")
    one.see(r"bash-[0-9.]+\$ ")
    one.type("exit\n")
    assert one.close() == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).split("\r\n")
    # What is to be pasted is whole on its line, however long.
    assert [
        line for line in lines if len(line) > 80 and not line.startswith(("ssh-ed25519 ", "code ", "    User "))
    ] == []
    uid = do.gateway.host.sh(f"id -u {user}").strip()
    assert do.containers() == [f"birds._.{uid}"]
    assert do.gateway.host.sh(f"find {home(user)} ! -user {uid}") == ""

    # Once more, without anybody to ask: all of it is there.
    before = found(do, user)
    again = do("user-setup", *QUICK, user=user)
    assert again.returncode == 0, again.stderr
    assert "the image birds is there already" in again.stdout
    assert "birds runs already" in again.stdout
    assert (found(do, user), do.containers()) == (before, [f"birds._.{uid}"])


def test_a_project_from_nothing_to_its_container_without_a_terminal(do: Commands):
    said = do.ok("project-init", "birds", "--quick", "--type", "cv", "--base", SHELL, "--desc", "Songs")
    assert "the project birds is in ~/workspace/birds" in said
    where = f"{home('alice')}/workspace/birds"
    assert set(do.gateway.host.sh(f"ls -A {where}").split()) == PIECES
    dockerfile = f"{home('alice')}/dockerfiles/birds/Dockerfile"
    assert "opencv-python-headless" in do.gateway.host.sh(f"cat {dockerfile}")
    do.gateway.host.sh(f"sed -i '/^# /,$d' {dockerfile}; echo FROM {SHELL} >{dockerfile}")
    do.ok("project-launch", "birds", "--cpu-only", "--yes", "--env", "A=1")
    made = do.gateway.inspect(f"birds._.{do.uid}")
    assert [mount["Source"] for mount in made["Mounts"] if mount["Destination"] == "/workspace"]
    assert "A=1" in made["Config"]["Env"]
    labels = made["Config"]["Labels"]
    assert (labels["ds01.type"], labels["ds01.interface"]) == ("managed", "wizard")
    assert made["HostConfig"]["PortBindings"] == {"8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert "README.md" in do.ok("container", "run", "birds", "ls", "/workspace")
    # It runs; it is started; what it was made from stays.
    assert do.ok("project-launch", "birds") == "birds runs already\n"
    do.ok("container", "stop", "birds")
    do.ok("project-launch", "birds")
    refused = do("project-launch", "birds", "--rebuild")
    assert (refused.returncode, "`container retire birds` first" in refused.stderr) == (1, True)
    image = do.gateway.inspect(f"ds01-{do.uid}/birds")["Id"]
    do.ok("container", "retire", "birds", "--yes")
    do.ok("project-launch", "birds", "--cpu-only", "--rebuild")
    assert do.gateway.inspect(f"ds01-{do.uid}/birds")["Id"] != image
    assert do("project-launch", "nothing").returncode == 5


def test_an_image_that_there_is_is_seen_and_offered(do: Commands):
    do.ok("image", "create", "vision", "--image", SHELL, "--no-jupyter", "--no-data-science", "--yes")
    one = Terminal(do.gateway, "alice", "user-setup", "birds", "--cpu-only", "--skip", "ssh", "--skip", "shell")
    one.see(r"1/4 project.*\r\nDo it now\? \[Y/n\]: ")
    one.type("\n")
    one.see(r"about\?: ")
    one.type("\n")
    one.see(r"commits \[.*\]: ")
    one.type("\n")
    one.see(r"commits: ")
    one.type("a@example.org\n")
    one.see(r"2/4 image.*\r\nDo it now\? \[Y/n\]: ")
    one.type("\n")
    one.see(r"You have images: vision\r\nWhich one\? birds would be a new one \[vision\]: ")
    one.type("\n")
    one.see(r"the image is vision")
    one.see(r"3/4 container.*\r\nDo it now\? \[Y/n\]: ")
    one.type("\n")
    one.see("birds runs")
    one.see(r"4/4 editor.*\r\nDo it now\? \[Y/n\]: ")
    one.type("n\n")
    assert one.close() == 0
    assert [row["image"] for row in do.json("container", "list")] == ["vision"]


def test_a_step_that_fails_is_said_and_the_rest_goes_on_later(do: Commands):
    failed = do("user-setup", "birds", "--yes", "--cpu-only", "--image", "nosuch/image")
    assert failed.returncode == 5
    assert "stopped at the step container: `user-setup birds` goes on" in failed.stderr
    assert "opens a shell" not in failed.stdout + failed.stderr
    assert do.containers() == []
    done = do("user-setup", "birds", "--skip", "image", "--yes", "--cpu-only", "--image", SHELL)
    assert done.returncode == 0, done.stderr


def test_each_step_of_the_first_day_can_be_left_out_and_be_done_alone(do: Commands):
    steps = ("ssh", "shell", "project", "image", "container", "editor")
    made = {
        "ssh": {".ssh/id_ed25519", ".ssh/id_ed25519.pub"}, "shell": {".bashrc"}, "image": set(), "container": set(),
        "project": {"workspace/birds/README.md", "workspace/birds/.gitignore"},
        "editor": {"workspace/birds/.devcontainer/devcontainer.json"},
    }  # fmt: skip
    # Nothing that would have to be fetched.
    there = {"dockerfiles/birds/Dockerfile"}
    do.ok("bash", "-c", f"mkdir -p ~/dockerfiles/birds; echo FROM {SHELL} >~/dockerfiles/birds/Dockerfile")
    for number, alone in enumerate(steps):
        others = [word for step in steps if step != alone for word in ("--skip", step)]
        done = do("user-setup", "birds", *QUICK, *others)
        assert (done.returncode, f"1/1 {alone}: " in done.stderr) == (0, True), done
        there |= made[alone]
        assert found(do, "alice") == there, alone
        assert (bool(do.tags()), bool(do.containers())) == (
            number >= steps.index("image"),
            number >= steps.index("container"),
        )
    assert do("user-setup", "birds", *[word for step in steps for word in ("--skip", step)]).returncode == 0
    assert found(do, "alice") == there


@pytest.mark.parametrize(
    "command",
    [
        "user-setup birds", "project-init birds", "ssh-setup --yes", "shell-setup", "readme-create birds",
        "git-init birds", "devcontainer-init birds", "vscode-setup birds", "image-create birds",
    ],
)  # fmt: skip
def test_a_full_home_is_said_by_every_step(do: Commands, command: str):
    full = f"{home('alice')}/full"
    do.gateway.host.sh(f"mkdir {full}; mount -t tmpfs -o nosuid,nodev,size=64k,uid={do.uid} none {full}")
    try:
        do.gateway.host.sh(f"install -d -o alice {full}/workspace/birds; dd if=/dev/zero of={full}/all bs=4k || :")
        done = do("env", f"HOME={full}", *command.split())
        left = do.gateway.host.sh(f"find {full} -type f ! -size 0")
    finally:
        do.gateway.host.sh(f"umount {full}")
    assert done.returncode == 1
    assert re.search("[Nn]o space left on device", done.stderr), done.stderr
    assert left == f"{full}/all\n"


def test_jupyter_is_started_once_and_reached_through_the_line_that_is_said(do: Commands):
    do.gateway.host.sh(PYTHON)
    do.deploy("lab", "ds01-lab/notebooks")
    assert "has no port to the outside" in do("jupyter-setup", "lab").stderr
    do.ok("container", "retire", "lab", "--yes")
    do.deploy("lab", "ds01-lab/notebooks", "--publish", "8888")
    said = do.json("jupyter-setup", "lab", "--server", "gpu1", "--port", "9999")
    assert said["ssh"] == f"ssh -N -L 9999:127.0.0.1:{said['port']} alice@gpu1"
    assert said["address"] == f"http://localhost:9999/lab?token={said['token']}"
    assert re.fullmatch(r"[0-9a-f]{48}", said["token"])
    listening = do.gateway.host.sh(f"ss -Hltn sport = :{said['port']}").split()
    assert listening[3] == f"127.0.0.1:{said['port']}"
    status = f"curl -s -o /dev/null -w %{{http_code}} http://127.0.0.1:{said['port']}/api/status"
    assert do.gateway.host.sh(status) == "403"
    assert do.gateway.host.sh(f"{status} -H 'Authorization: token {said['token']}'") == "200"
    # Whoever looks at the processes of this server sees no token.
    assert said["token"] not in do.gateway.host.sh("cat /proc/*/cmdline | tr '\\0' ' '")
    assert do.json("jupyter-setup", "lab", "--server", "gpu1", "--port", "9999") == said
    text = do.ok("jupyter-setup", "lab", "--server", "gpu1")
    assert f"\n\nssh -N -L 8888:127.0.0.1:{said['port']} alice@gpu1\n\n" in text
    assert do("jupyter-setup", "lab", "--token", "another0token0of0mine").returncode == 1
    assert do("jupyter-setup", "lab", "--token", "short").returncode == 2
    # After a restart it has another port, and is started anew although its list says otherwise.
    do.ok("container", "stop", "lab", "--time", "0")
    do.ok("container", "start", "lab")
    again = do.json("jupyter-setup", "lab")
    status = f"curl -s -o /dev/null -w %{{http_code}} http://127.0.0.1:{again['port']}/api/status"
    assert do.gateway.host.sh(f"{status} -H 'Authorization: token {again['token']}'") == "200"
    do.ok("container", "stop", "lab")
    assert "does not run" in do("jupyter-setup", "lab").stderr
    assert do("jupyter-setup", "nobody").returncode == 5
    do.deploy("plain", SHELL, "--publish", "8888")
    assert f"`image install {SHELL} jupyterlab`" in do("jupyter-setup", "plain").stderr


def test_a_jupyter_that_does_not_start_is_said_with_its_last_lines(do: Commands):
    do.gateway.host.sh(PYTHON)
    do.deploy("lab", "ds01-lab/notebooks", "--publish", "8888")
    do.ok("docker", "exec", "-d", "lab", "python3", "-m", "http.server", "8888")
    listens = f'docker exec lab._.{do.uid} bash -c ": </dev/tcp/127.0.0.1/8888"'
    do.gateway.host.sh(f"timeout 60 sh -c 'until {listens}; do sleep 0.1; done'")
    done = do("jupyter-setup", "lab")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "JupyterLab did not start; its last lines are above" in done.stderr


def test_a_dev_container_is_checked_against_what_is_here(do: Commands):
    do.ok("dir-create", "birds")
    assert do("devcontainer-check", "birds").returncode == 5
    do.ok("devcontainer-init", "birds")
    missing = do("devcontainer-check", "birds")
    assert (missing.returncode, "`image create birds`" in missing.stderr) == (1, True)
    do.ok("image", "create", "birds", "--image", SHELL, "--no-jupyter", "--no-data-science", "--yes")
    assert do.ok("devcontainer-check", "birds") == "~/workspace/birds/.devcontainer/devcontainer.json is well\n"
    assert json.loads(do.ok("devcontainer-check", "birds", "--json"))["problems"] == []
