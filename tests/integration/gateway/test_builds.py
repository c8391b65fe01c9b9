"""Builds by the unmodified command line: what works, in whose slice, and that no Dockerfile reads what is another's."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path

import click
import pytest

from lab.process import ROOT
from tests.integration.gateway.gateway_host import SOCKET, GatewayHost
from tests.integration.gateway.gpu_host import until
from tests.integration.gateway.raw_requests import request, send

BASE = "ds01-lab/base"
WRAPPER = ROOT / "roles/gateway/templates/usr/local/bin/docker.j2"
SECRET = "diary-of-bob"  # noqa: S105 - what must not be read
QUIET = "2>&1 | grep -v -e DEPRECATED -e 'BuildKit is currently' -e environment-variable -e '^ *$'"


@pytest.fixture(scope="module")
def foreign(gateway: GatewayHost) -> str:
    """The id of an image of bob's."""
    script = f"docker run --name m {BASE} sh -c 'echo {SECRET} >/file'; docker commit m diary; docker rm m >/dev/null"
    found = [line for line in gateway.sh("bob", script).splitlines() if line.startswith("sha256:")]
    return found[0].removeprefix("sha256:")


def build(gateway: GatewayHost, user: str, files: dict[str, str], options: str = "", check: str = "") -> str:
    """What a build prints, and a command after it."""
    script = f"""
    cd $(mktemp -d); python3 -c 'import json, pathlib, sys
for name, text in json.load(sys.stdin).items(): pathlib.Path(name).write_text(text)'
    docker build {options or "-t it ."} {QUIET}
    {check}
    """
    return gateway.run(user, "sh", "-c", script, stdin=json.dumps(files).encode(), check=False).stdout


def test_what_people_write_builds(gateway: GatewayHost):
    dockerfile = f"""\ufeff# syntax=docker/dockerfile:1
ARG TAG=latest
ARG BASE="{BASE}:${{TAG}}"
FROM --platform=$BUILDPLATFORM ${{BASE}} AS Builder\r
ARG TARGETARCH
ARG WHO=nobody
COPY --chown=1000 in.txt \\
  # a comment between

  /in.txt
RUN echo "$WHO on $TARGETARCH" >/who && \\
    echo 'a \\ b' >>/who && cat /in.txt >>/who && cat /proc/self/cgroup >/cgroup
FROM {BASE} as other
FROM other
COPY --from=builder /who /cgroup /
COPY --from=0 ["/in.txt", "/in 2.txt"]
COPY --from={BASE} /bin/busybox /box
LABEL note="x"
CMD ["cat", "/who", "/in 2.txt"]
FROM scratch AS unused
"""
    files = {"Dockerfile": dockerfile, "in.txt": "content\n", ".dockerignore": "Dockerfile\n.*\n"}
    said = build(
        gateway, "alice", files, "--build-arg WHO=alice --target builder -t b . && docker build --label l=1 -t it .",
        "docker run --rm b cat /who; docker run --rm b cat /cgroup; docker inspect --format '{{.Config.Labels}}' b",
    )  # fmt: skip
    assert "alice on amd64\na \\ b\ncontent\n" in said
    assert "/ds01.slice/ds01-student.slice/ds01-student-alice.slice/" in said
    assert f"ds01.uid:{gateway.uid['alice']}" in said
    # From standard input, from elsewhere in the context, packed, by another name, without a name.
    script = f"""
    cd $(mktemp -d); mkdir sub; echo y >x
    printf 'FROM {BASE}\\nCOPY x /\\n' >sub/My.Dockerfile; ln -s sub/My.Dockerfile dockerfile
    docker build -q -f sub/My.Dockerfile . ; docker build -q . ; docker build -q -f - . <sub/My.Dockerfile
    tar -cz sub x | docker build -q -f sub/My.Dockerfile -
    docker build -q -f $PWD/sub/My.Dockerfile --add-host a:127.0.0.2 $PWD
    """
    found = [line for line in gateway.sh("alice", script).splitlines() if line.startswith("sha256:")]
    assert len(found) == 5
    # Only the owner of the file differs where the client did not write the archive.
    assert len(set(found)) <= 2


def test_a_client_that_has_said_all_still_gets_its_image(gateway: GatewayHost):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        content = f"FROM {BASE}\nRUN echo half a close\n".encode()
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    code = r"""
import base64
def main(context):
    body = base64.b64decode(context)
    sock = connect()
    sock.sendall(b"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    sock.shutdown(socket.SHUT_WR)
    return read_all(sock, 120).decode()
"""
    said = gateway.python("alice", code, context=base64.b64encode(out.getvalue()).decode())
    assert "Successfully built" in said


def test_no_dockerfile_reads_the_image_of_another(gateway: GatewayHost, foreign: str):
    name = f"ds01-{gateway.uid['bob']}/diary"
    heredoc = "FROM {0}\nRUN cat <<'USER x'\nFROM scratch AS diary\nUSER x\nFROM {1}"
    onbuild = f"ONBUILD COPY --from={name} /file /f"
    trigger = f"docker run --name t {BASE} true; docker commit -c '{onbuild}' t trap; docker rm t"
    gateway.sh("alice", trigger)
    files = {
        "name": f"FROM {name}\nRUN cat /file", "id": f"FROM {foreign}\nRUN cat /file",
        "sha": f"FROM sha256:{foreign}\nRUN cat /file", "short": f"FROM {foreign[:12]}\nRUN cat /file",
        "hub": f"FROM docker.io/{name}\nRUN cat /file", "lower": f"  from\t{name}:latest  as x\nrun cat /file",
        "split": f"FR\\\nOM {name[:4]}\\\n{name[4:]}\nRUN cat /file",
        "escape": f"# escape=`\nFROM `\n# x\n {name}\nRUN cat /file",
        "argument": f"ARG A={name}\nFROM $A\nRUN cat /file", "default": f"FROM ${{B:-{name}}}\nRUN cat /file",
        "copy": f"FROM {BASE}\nCOPY --from={name} /file /\nRUN cat /file",
        "copy id": f"FROM {BASE}\nCOPY --chown=0 --from={foreign} /file /\nRUN cat /file",
        "copy variable": f"FROM {BASE}\nARG X={name}\nCOPY --from=$X /file /\nRUN cat /file",
        "copy quoted": f'FROM {BASE}\nCOPY "--from={name}" /file /\nRUN cat /file',
        "copy escaped": f"FROM {BASE}\nCOPY --fr\\om={name} /file /\nRUN cat /file",
        "copy space": f"FROM {BASE}\nCOPY \u00a0--from={name} /file /\nRUN cat /file",
        "mount": f"FROM {BASE}\nRUN --mount=from={name},target=/m cat /m/file",
        "later stage": f"FROM {BASE}\nCOPY --from={foreign[:12]} /file /\nRUN cat /file\nFROM {BASE} AS x",
        "onbuild": f"FROM {BASE} AS a\nONBUILD COPY --from={name} /file /\nFROM a\nRUN cat /file",
        "trigger": "FROM trap\nRUN cat /f", "heredoc": heredoc.format(BASE, "diary"),
        "add": f"FROM {BASE}\nADD http://localhost:1/x /", "add variable": f"FROM {BASE}\nARG U\nADD $U /",
        "add quoted": f"FROM {BASE}\nADD h'tt'p://localhost:1/x /", "unknown": f"FROM {BASE}\nINCLUDE+ x",
        "trailing": f"FROM {BASE}\nRUN true \\\\\nFROM {name}\nRUN cat /file",
        "carriage": f"FROM {BASE}\rFROM {name}\nRUN cat /file", "control": f"FROM {BASE}\vAS x\nFROM {name}",
    }  # fmt: skip
    named = "docker images --format '{{.Repository}}:{{.Tag}}' | grep -v '<none>' | sort"
    before = gateway.host.sh(named)
    said = build(
        gateway, "alice", {f"f{number}": text for number, text in enumerate(files.values())},
        "- </dev/null; true", f"for n in $(seq 0 {len(files) - 1}); do docker build -f f$n . 2>&1 | tail -1; done; "
        f"docker build -f f8 --build-arg A={foreign} . 2>&1 | tail -1",
    )  # fmt: skip
    answers = said.splitlines()[-len(files) - 1 :]
    for what, answer in zip([*files, "build argument"], answers, strict=True):
        refused = (
            "Dockerfile, line", "No such image", "has ONBUILD", "no such host", "no registry has such", "invalid ref",
            "COPY failed: file not found",
        )  # fmt: skip
        assert any(text in answer for text in refused), (what, answer)
        assert SECRET not in answer, what
    assert gateway.host.sh(named) == before
    said = gateway.sh("alice", f"printf 'FROM {BASE}\\nRUN cat /file' | docker build --cache-from {name} -")
    assert SECRET not in said


def test_nobody_is_given_layers_of_another(gateway: GatewayHost):
    script = f"printf 'FROM {BASE}\\nRUN head -c 9 /dev/urandom | base64 >/random' | docker build -q -t r - {QUIET}"
    assert gateway.sh("alice", script) == gateway.sh("alice", script)
    gateway.sh("bob", script)
    cat = "docker run --rm r cat /random"
    assert gateway.sh("alice", cat) != gateway.sh("bob", cat)


def test_a_name_of_everybodys_is_never_built_over(gateway: GatewayHost):
    before = gateway.inspect(f"{BASE}:latest")["Id"]
    build(gateway, "alice", {"Dockerfile": f"FROM {BASE}\nRUN echo evil >/evil"}, f"-t {BASE} .")
    assert gateway.inspect(f"{BASE}:latest")["Id"] == before
    assert gateway.sh("bob", f"docker run --rm {BASE} ls /evil") == "ls: /evil: No such file or directory\n"
    # For its builder the name is the own image, until it goes.
    assert gateway.sh("alice", f"docker run --rm {BASE} ls /evil; docker rmi {BASE} >/dev/null") == "/evil\n"
    assert "No such file" in gateway.sh("alice", f"docker run --rm {BASE} ls /evil")


def test_what_needs_buildkit_is_built_by_buildah_in_ones_own_slice(gateway: GatewayHost):
    gateway.host.run("mkdir", "-p", "/srv/code")
    gateway.host.copy("src/ds01", "/srv/code/")
    gateway.host.copy(Path(click.__file__).parent, "/srv/code/")
    gateway.host.sh("chmod -R a+rX /srv/code")
    dockerfile = f"""FROM {BASE}
RUN --mount=type=cache,target=/c --mount=type=secret,id=word cat /run/secrets/word >/seen
RUN cat /proc/self/cgroup >/group
COPY <<END /here
document
END
"""
    script = f"""
    cd $(mktemp -d); cat >Dockerfile; echo open-sesame >word; export PYTHONPATH=/srv/code DS01_SOCKET={SOCKET}
    python3 -c 'from ds01.cli.image.build import build; build()' --secret id=word,src=word -t deep:1 . 2>&1
    docker run --rm deep:1 cat /seen /here /group; docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}'
    """
    said = gateway.run("alice", "sh", "-c", script, stdin=dockerfile.encode(), check=False).stdout
    assert "open-sesame\ndocument\n" in said
    uid = gateway.uid["alice"]
    assert f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/ds01-build-{uid}-" in said
    assert said.splitlines().count("deep:1") == 1
    assert "deep" not in gateway.sh("bob", "docker images")
    assert until(lambda: gateway.host.sh("systemctl list-units --no-legend 'ds01-build-*'") == "")


WANT_BUILDKIT = (
    "docker build -t q .", "docker image build .", "docker builder build .", "docker compose build",
    "docker compose up --build",
)  # fmt: skip
ARE_BUILDKIT = (
    "docker buildx build .", "docker buildx build --load -t q .", "docker buildx bake", "docker buildx du",
    "docker buildx create --name own --bootstrap", "docker builder prune -f",
)  # fmt: skip


def test_no_way_to_buildkit_hangs_and_each_says_what_works(gateway: GatewayHost):
    compose = {"services": {"web": {"build": ".", "image": "web", "command": "true"}}}
    bake = 'group "default" { targets = ["a"] }\ntarget "a" { context = "." }\n'
    files = {"Dockerfile": f"FROM {BASE}\n", "compose.yaml": json.dumps(compose), "docker-bake.hcl": bake}

    def tried(before: str, commands: tuple[str, ...]) -> dict[str, str]:
        each = "; ".join(f"timeout 120 {command} 2>&1 </dev/null; echo code $?; echo ---" for command in commands)
        said = build(gateway, "alice", files, "- </dev/null; true", f"{before}; rm -rf ~/.docker/buildx; {each}")
        return dict(zip(commands, said.split("---\n")[-len(commands) - 1 :], strict=False))

    for unset in ("unset DOCKER_BUILDKIT", "export DOCKER_BUILDKIT=1"):
        for command, said in tried(unset, WANT_BUILDKIT).items():
            assert "BuildKit builds outside everybody's limits" in said, (unset, command, said)
            assert "export DOCKER_BUILDKIT=0" in said, (unset, command)
            assert "code 0" not in said
    for command, said in tried("unset DOCKER_BUILDKIT", ARE_BUILDKIT).items():
        assert "`docker buildx` does not" in said, (command, said)
        assert "code 0" not in said
    for command, said in tried("export DOCKER_BUILDKIT=0", WANT_BUILDKIT).items():
        assert "code 0" in said, (command, said)


def test_a_ping_names_the_builder_that_there_is(gateway: GatewayHost):
    """Clients choose by it, before anybody is asked."""
    ask = "curl -s -i --unix-socket /run/docker.sock http://x/_ping"
    engine = dict(line.split(": ", 1) for line in gateway.host.sh(ask).splitlines() if ": " in line)
    assert engine["Builder-Version"] == "2"
    for method, said in send(gateway, {method: request(f"{method} /_ping") for method in ("GET", "HEAD")}).items():
        head, _, content = said.partition("\r\n\r\n")
        told = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
        assert [value for name, value in told if name.lower() == "builder-version"] == ["1"]
        assert [value for name, value in told if name.lower() == "api-version"] == [engine["Api-Version"]]
        assert content == ("OK" if method == "GET" else "")


def test_clients_that_want_buildkit_are_told(gateway: GatewayHost):
    message = "BuildKit builds outside everybody's limits"
    compose = {"services": {"web": {"build": ".", "image": "web"}}}
    files = {"Dockerfile": f"FROM {BASE}\nRUN echo hi\n", "compose.yaml": json.dumps(compose)}
    said = build(gateway, "alice", files, "- </dev/null; true", "DOCKER_BUILDKIT=1 docker build . 2>&1")
    assert message in said
    assert "export DOCKER_BUILDKIT=0" in said
    # By the wrapper that people find first: the plug-in is there, and the variable is not set.
    gateway.host.run("mkdir", "-p", "/srv/wrapper")
    gateway.host.write("/srv/wrapper/docker", WRAPPER.read_text(encoding="utf-8"), 0o755)
    unasked = "unset DOCKER_BUILDKIT; PATH=/srv/wrapper:$PATH"
    said = build(
        gateway, "alice", files, "- </dev/null; true",
        f"{unasked}; docker build -q . 2>&1; docker compose build 2>&1; docker buildx version 2>&1 || echo no plug-in",
    )  # fmt: skip
    assert "sha256:" in said
    assert "Successfully tagged web:latest" in said
    assert "no plug-in" in said
    for line in (
        "RUN --mount=type=cache,target=/c true",
        "RUN cat <<EOF\nx\nEOF",
        "COPY --link x /",
        "COPY <<E /x\ny\nE",
    ):
        said = build(gateway, "alice", {"Dockerfile": f"FROM {BASE}\n{line}\n"}, "-t x .")
        assert "BuildKit" in said, line
        assert "Dockerfile, line 2" in said
    for query in (
        "squash=1",
        "version=2&session=x",
        "remote=http://x/",
        "networkmode=host",
        "extrahosts=a:host-gateway",
    ):
        answer = gateway.sh("alice", f"curl -s -X POST --unix-socket {SOCKET} 'http://x/build?{query}'")
        assert "message" in answer, query
